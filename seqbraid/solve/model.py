"""What a time-stepping model gives to be solved and differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from torch import Tensor

from seqbraid.mgrit import Problem
from seqbraid.options import MGRIT

__all__ = ["AdjointProblem", "ForwardProblem", "Model", "Tensors", "Where"]

Tensors = Sequence[Tensor | None]

# "everywhere": the same on all ranks, whose gradients are summed; "owned": of steps that this rank holds, the
# same at this place of all data groups; "data": this rank's part of the input.
Where = Literal["everywhere", "owned", "data"]


class ForwardProblem(Problem, Protocol):
    """The states from the initial one on.

    `sweeps` counts fine sweeps so far, in units of all intervals.
    """

    sweeps: float

    def output(self) -> Tensor:
        """Return what the loss may see of every step (steps, ...); called once, after the last relaxation."""

    def saved(self, points: Tensor) -> list[Tensor | None]:
        """Return the tensors from which `Model.adjoint` starts; called after `output`.

        The last relaxation started from `points` (intervals, ...).
        """


class AdjointProblem(Problem, Protocol):
    """The cotangents of the states, with time reversed, about the states that the forward solve returned.

    `sweeps` counts fine sweeps so far, in units of all intervals.
    """

    sweeps: float

    def gradients(self) -> list[Tensor | None]:
        """Return this rank's part of the gradient of each of the model's tensors.

        None for what was not asked for; called once, after the last relaxation.
        """


class Model(Protocol):
    """A recurrence u_{j+1} = F_j(u_j) over the steps that this rank holds; u is one tensor.

    Its tensors are the parameters and inputs of the F_j, handed to it at each call: they are what autograd
    sees. The initial state and the last one are the same on all ranks along the sequence.
    """

    @property
    def name(self) -> str:
        """What messages and errors call it: "GRU layer 0"."""

    @property
    def reverse(self) -> bool:
        """Whether its first step is the last in time."""

    @property
    def where(self) -> Sequence[Where]:
        """Where each of its tensors is held, which says over which ranks its gradient is summed."""

    def forward(self, initial: Tensor, tensors: Tensors, options: MGRIT | None, keep: bool) -> ForwardProblem:
        """Return the forward problem, cut as the options say; None: in one interval, solved in sequence.

        With `keep` an adjoint may follow.
        """

    def adjoint(
        self,
        tensors: Tensors,
        saved: Tensors,
        direct: Tensor | None,
        needs: Sequence[bool],
        options: MGRIT | None,
        in_sequence: bool,
    ) -> AdjointProblem:
        """Return the adjoint of the forward problem with these options that left `saved`.

        `direct` (steps, ...) is the gradient of the output, `needs` tells whose gradients are wanted. With
        `in_sequence` it is to be solved as one interval, however the forward problem was cut.
        """
