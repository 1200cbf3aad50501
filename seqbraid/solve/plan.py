"""All that one differentiable solve needs besides its model and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.mgrit import Neighbours, Partition, SolveReport
from seqbraid.options import MGRIT, Serial
from seqbraid.solve.divergence import Divergence
from seqbraid.solve.gradient_sums import GradientSums
from seqbraid.solve.model import Model

__all__ = ["SolvePlan"]


@dataclass(frozen=True)
class SolvePlan:
    """One model's solve within a forward call, and its adjoint.

    Args:
        model: what is solved.
        solver: how.
        grid: the ranks; those of `grid.sequence` share the solve.
        partition: which steps they hold.
        report: gets an entry for each direction.
        divergence: what follows where it diverges; shared by all solves of a call.
        number: the model's place among those of the call; those below it are solved before.
        keep: whether a backward pass may follow.
        last: whether no other solve of the call follows: what diverged in one data group is then raised in
            all.
        sums: where gradients are summed while other solves go on; None where each solve sums its own.
        places: those of the model's tensors there.
        guess: the states at the ends of this rank's intervals (intervals, ...) to begin with; None: as the
            solver says.
        ends: takes those that were found; None of a solve that diverged or was done in sequence.

    """

    model: Model
    solver: Serial | MGRIT
    grid: ProcessGrid
    partition: Partition
    report: SolveReport
    divergence: Divergence
    number: int = 0
    keep: bool = True
    last: bool = True
    sums: GradientSums | None = None
    places: Sequence[int | None] = ()
    guess: Tensor | None = None
    ends: list[Tensor | None] = field(default_factory=list)

    @property
    def communicator(self) -> Communicator:
        """The ranks that share the solve."""
        return self.grid.sequence

    @property
    def options(self) -> MGRIT | None:
        """The parallel solver's options; None where the model is solved in sequence."""
        solver = self.solver
        return solver if isinstance(solver, MGRIT) and solver.levels > 1 else None

    def neighbours(self, direction: str, against: bool) -> Neighbours:
        """Return the ranks around this one in a solve along, or against, the order of the model."""
        reverse = self.model.reverse != against
        what = f"{self.model.name}: {direction} solve"
        return Neighbours(self.communicator, self.partition, reverse, what)

    @property
    def holds_first_step(self) -> bool:
        """Whether this rank holds the step at which the model begins."""
        partition = self.partition
        return self.communicator.rank == (
            partition.last_holder if self.model.reverse else partition.first_holder
        )

    @property
    def holds_last_step(self) -> bool:
        """Whether this rank holds the step at which the model ends."""
        partition = self.partition
        return self.communicator.rank == (
            partition.first_holder if self.model.reverse else partition.last_holder
        )
