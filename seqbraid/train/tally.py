"""What an epoch has come to so far: sums over its updates."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from seqbraid.comm import Communicator
from seqbraid.mgrit import SolveReport, has_diverged

__all__ = ["Tally"]

KINDS = ("relaxation", "coarse", "communication", "data", "other")


@dataclass
class Tally:
    """Sums over the updates of an epoch, those of the losses over all ranks, the others this rank's own.

    `seconds` tells by `KINDS` where the time went: propagation over the fine steps, the coarse levels,
    messages and waiting, reading of batches, and the rest.
    """

    loss: float = 0.0
    correct: int = 0
    sequences: int = 0
    forward_residual: float = 0.0
    backward_residual: float = 0.0
    diverged_solves: int = 0
    largest_gradient_norm: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))

    def add_solve(self, report: SolveReport, epsilon: float) -> None:
        """Add the solves of one forward and backward pass; `epsilon` is that of their dtype."""
        self.forward_residual = max(self.forward_residual, report.forward_residual)
        self.backward_residual = max(self.backward_residual, report.backward_residual)
        for entry in (*report.forward, *report.backward):
            self.diverged_solves += has_diverged(entry.residuals, epsilon)
            self.seconds["communication"] += entry.communication_seconds
            self.seconds["coarse"] += entry.coarse_seconds
            self.seconds["relaxation"] += entry.seconds - entry.communication_seconds - entry.coarse_seconds

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Add the time of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - start

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Add what of the time of a block was not added to another kind within it."""
        start, known = time.perf_counter(), sum(self.seconds.values())
        try:
            yield
        finally:
            within = sum(self.seconds.values()) - known
            self.seconds["other"] += max(0.0, time.perf_counter() - start - within)

    def merged(self, world: Communicator) -> Tally:
        """Return the tally of all ranks, the same on each: largest residuals, mean seconds; collective."""
        tallies = [Tally(**values) for values in world.all_gather_objects(asdict(self), "tally of an epoch")]
        mean = {kind: sum(each.seconds[kind] for each in tallies) / len(tallies) for kind in KINDS}
        return Tally(
            self.loss,
            self.correct,
            self.sequences,
            max(each.forward_residual for each in tallies),
            max(each.backward_residual for each in tallies),
            max(each.diverged_solves for each in tallies),
            self.largest_gradient_norm,
            mean,
        )

    def metrics(self) -> dict[str, Any]:
        """Return the training's part of an epoch's metrics."""
        norm = {"gradient_norm": self.largest_gradient_norm} if self.largest_gradient_norm else {}
        return {
            "train_loss": self.loss / self.sequences,
            "train_accuracy": self.correct / self.sequences,
            "forward_residual": self.forward_residual,
            "backward_residual": self.backward_residual,
            "diverged_solves": self.diverged_solves,
            **norm,
            "train_seconds": sum(self.seconds.values()),
            "seconds": dict(self.seconds),
        }
