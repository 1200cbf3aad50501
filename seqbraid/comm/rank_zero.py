"""What rank 0 does for the whole job: every rank gets its result, or its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from seqbraid.comm.base import Communicator
from seqbraid.errors import SeqbraidError

__all__ = ["on_rank_zero"]

Result = TypeVar("Result")


def on_rank_zero(communicator: Communicator, action: Callable[[], Result], what: str) -> Result:
    """Call `action` on rank 0 alone, and return its result on every rank; collective.

    The result is a small value that can be pickled. A `SeqbraidError` or `OSError` of the action is raised on
    every rank, so that none waits for rank 0.
    """
    result: Result | None = None
    error: Exception | None = None
    if communicator.rank == 0:
        try:
            result = action()
        except (SeqbraidError, OSError) as caught:
            error = caught
    of_rank_zero: tuple[Result, Exception | None] = communicator.all_gather_objects((result, error), what)[0]
    if of_rank_zero[1] is not None:
        raise error or of_rank_zero[1]
    return of_rank_zero[0]
