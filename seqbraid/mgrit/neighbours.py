"""The ranks before and after this one in the direction of a solve."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator

__all__ = ["Neighbours"]


@dataclass
class Neighbours:
    """Messages to the next rank, from the previous one, and sums over all.

    `what` names the solve in error messages; `seconds` adds up the time spent here, waiting included.
    """

    communicator: Communicator
    previous: int | None
    next: int | None
    what: str
    seconds: float = field(default=0.0, init=False)

    def receive(self, like: Tensor) -> Tensor | None:
        """Return the state that the previous rank sent, of the form of `like`; None where there is none."""
        if self.previous is None:
            return None
        start = self.communicator.clock()
        state = self.communicator.receive(torch.empty_like(like), self.previous, self.what)
        self.seconds += self.communicator.clock() - start
        return state

    def send(self, state: Tensor) -> None:
        """Hand a state to the next rank, if there is one."""
        if self.next is not None:
            start = self.communicator.clock()
            self.communicator.send(state, self.next, self.what)
            self.seconds += self.communicator.clock() - start

    def sum(self, tensor: Tensor, of_what: str) -> Tensor:
        """Sum a tensor over all ranks, in place, and return it."""
        start = self.communicator.clock()
        self.communicator.all_reduce(tensor, f"{self.what}: {of_what}")
        self.seconds += self.communicator.clock() - start
        return tensor
