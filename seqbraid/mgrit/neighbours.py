"""The ranks around this one in the direction of a solve."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator
from seqbraid.mgrit.grid import Partition

__all__ = ["Neighbours"]


@dataclass
class Neighbours:
    """Messages to the next rank, from the previous one, and between all, of a solve along a partition.

    With `reverse` the solve runs from the last step to the first. `what` names the solve in error messages;
    `seconds` adds up the time spent here, waiting included.
    """

    communicator: Communicator
    partition: Partition
    reverse: bool
    what: str
    seconds: float = field(default=0.0, init=False)

    @property
    def previous(self) -> int | None:
        """The rank before this one, None where there is none."""
        return self.partition.next if self.reverse else self.partition.previous

    @property
    def next(self) -> int | None:
        """The rank after this one, None where there is none."""
        return self.partition.previous if self.reverse else self.partition.next

    def steps_before(self, multiple: int) -> int:
        """Return how many coarse steps, each of `multiple` fine ones, lie before this rank's."""
        counts = self.partition.interval_counts(multiple)
        rank = self.partition.rank
        return sum(counts[rank + 1 :] if self.reverse else counts[:rank])

    def receive(self, like: Tensor) -> Tensor | None:
        """Return the state that the previous rank sent, of the form of `like`; None where there is none."""
        if self.previous is None:
            return None
        start = self.communicator.clock()
        state = self.communicator.receive(torch.empty_like(like), self.previous, self.what)
        self.seconds += self.communicator.clock() - start
        return state

    def send(self, state: Tensor) -> None:
        """Hand a state to the next rank, if there is one; does not wait for it."""
        if self.next is not None:
            start = self.communicator.clock()
            self.communicator.send(state, self.next, self.what)
            self.seconds += self.communicator.clock() - start

    def gather(self, local: Tensor, multiple: int, of_what: str) -> Tensor:
        """Return a series of steps of `multiple` fine ones from all ranks' parts, in the solve's order."""
        if self.communicator.size == 1:
            return local
        start = self.communicator.clock()
        counts = self.partition.interval_counts(multiple)
        in_time = local.flip(0) if self.reverse else local
        everything = local.new_empty((sum(counts), *local.shape[1:]))
        self.communicator.all_gather(in_time, everything, counts, f"{self.what}: {of_what}")
        self.seconds += self.communicator.clock() - start
        return everything.flip(0) if self.reverse else everything

    def sum(self, tensor: Tensor, of_what: str) -> Tensor:
        """Sum a tensor over all ranks, in place, and return it."""
        start = self.communicator.clock()
        self.communicator.all_reduce(tensor, f"{self.what}: {of_what}")
        self.seconds += self.communicator.clock() - start
        return tensor
