"""What rank 0 does for the whole job, with an error that reaches every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from seqbraid.comm.base import Communicator
from seqbraid.errors import SeqbraidError

__all__ = ["on_first_rank"]

Result = TypeVar("Result")


def on_first_rank(communicator: Communicator, action: Callable[[], Result], what: str) -> Result | None:
    """Call `action` on rank 0 alone and return its result there, None elsewhere; collective.

    A `SeqbraidError` or `OSError` of the action is raised on every rank, so that none waits for rank 0.
    """
    result: Result | None = None
    error: Exception | None = None
    if communicator.rank == 0:
        try:
            result = action()
        except (SeqbraidError, OSError) as caught:
            error = caught
    of_first_rank: Exception | None = communicator.all_gather_objects(error, what)[0]
    if of_first_rank is not None:
        raise error or of_first_rank
    return result
