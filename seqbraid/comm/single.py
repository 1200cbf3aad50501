"""The communicator of a process that works alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NoReturn

from torch import Tensor

__all__ = ["SingleProcess"]


class _Finished:
    """A sum over one rank."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def wait(self) -> Tensor:
        """See `Pending.wait`."""
        return self._tensor


class SingleProcess:
    """One rank: reductions and broadcasts return what they were given."""

    rank = 0
    size = 1

    def send(self, tensor: Tensor, destination: int, what: str) -> NoReturn:
        """Raise: there is nobody to send to."""
        raise RuntimeError(f"{what}: a single process has no rank {destination} to send to")

    def receive(self, tensor: Tensor, source: int, what: str) -> NoReturn:
        """Raise: there is nobody to receive from."""
        raise RuntimeError(f"{what}: a single process has no rank {source} to receive from")

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """Return `tensor`."""
        return tensor

    def start_all_reduce(self, tensor: Tensor, what: str) -> _Finished:
        """See `Communicator.start_all_reduce`; there is nothing to wait for."""
        return _Finished(tensor)

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """Return `tensor`."""
        return tensor

    def all_gather(self, local: Tensor, everything: Tensor, counts: Sequence[int], what: str) -> Tensor:
        """Fill `everything` with `local`, and return it."""
        return everything.copy_(local)

    def all_gather_objects(self, value: Any, what: str) -> list[Any]:
        """Return `[value]`."""
        return [value]

    def split(self, ranks: Sequence[int]) -> SingleProcess:
        """Return itself."""
        return self

    def clock(self) -> float:
        """See `Communicator.clock`: wall time."""
        return time.perf_counter()

    def barrier(self, what: str) -> None:
        """Return at once."""
