"""What a solve needs of its ranks: a few calls on tensors, in one small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

__all__ = ["Communicator", "Pending"]


class Pending(Protocol):
    """A sum that was started."""

    def wait(self) -> Tensor:
        """Wait, within the time limit, and return the tensor, now summed; again at later calls."""


class Communicator(Protocol):
    """Ranks that call the same methods in the same order.

    Tensors travel as contiguous buffers of their own dtype, and receivers pass a tensor of the right
    shape to be filled. Every wait is bounded by a time limit; the error then names `what` was waited for.
    """

    rank: int
    size: int

    def send(self, tensor: Tensor, destination: int, what: str) -> None:
        """Hand a copy of `tensor` to `destination`; returns without waiting for the receiver."""

    def receive(self, tensor: Tensor, source: int, what: str) -> Tensor:
        """Fill `tensor` with what `source` sent, and return it."""

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """Sum `tensor` over the ranks in place, the same result on each, and return it."""

    def start_all_reduce(self, tensor: Tensor, what: str) -> Pending:
        """Begin to sum `tensor` over the ranks, and return without waiting for them.

        The tensor must be left alone until the sum is waited for; then it holds it, the same on each rank.
        Other calls may come in between, in the same order on every rank.
        """

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """Overwrite `tensor` with the one of `root`, in place, and return it."""

    def all_gather(self, local: Tensor, everything: Tensor, counts: Sequence[int], what: str) -> Tensor:
        """Fill `everything` (sum of counts, ...) with all ranks' `local` (counts[rank], ...); return it."""

    def all_gather_objects(self, value: Any, what: str) -> list[Any]:
        """Small Python values of all ranks in rank order; for set-up and reports, not inside a solve."""

    def split(self, ranks: Sequence[int]) -> Communicator:
        """Return the communicator of `ranks` of this one, in this order; the same again for the same ranks.

        Collective: every rank names the group that it is in itself, and all groups are of one size.
        """

    def clock(self) -> float:
        """Return seconds that pass as work and waiting do, from any beginning."""

    def barrier(self, what: str) -> None:
        """Wait until every rank has come here."""
