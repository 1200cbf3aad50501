"""How one rank's time slice is cut into intervals that are relaxed together as batch rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.mgrit import MGRIT, Serial

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """`steps` local steps as (c, n, B, ·): step k of all n intervals lies together.

    The interval at the end of the sequence is filled up with steps that are marked invalid, and which leave
    every state alone. With `reverse` the solve runs from the last step to the first, over the same intervals.
    """

    steps: int
    interval_length: int
    reverse: bool = False

    @staticmethod
    def of(steps: int, solver: Serial | MGRIT, reverse: bool = False) -> Layout:
        """Return the layout for a solver; a serial one takes the whole slice as one interval, uncopied."""
        length = solver.coarsening if isinstance(solver, MGRIT) else max(steps, 1)
        return Layout(steps, length, reverse)

    @property
    def intervals(self) -> int:
        """The number n of intervals, a short one included."""
        return -(-self.steps // self.interval_length)

    @property
    def padding(self) -> int:
        """The number of invalid steps after the last."""
        return self.intervals * self.interval_length - self.steps

    def to_intervals(self, series: Tensor) -> Tensor:
        """Return (steps, ...) as contiguous (c, n, ...), zeros in the padding."""
        if self.padding:
            zeros = series.new_zeros((self.padding, *series.shape[1:]))
            series = torch.cat([series, zeros])
        cut = series.reshape(self.intervals, self.interval_length, *series.shape[1:]).transpose(0, 1)
        return (cut.flip(0, 1) if self.reverse else cut).contiguous()

    def from_intervals(self, cut: Tensor) -> Tensor:
        """Return (c, n, ...) as (steps, ...), the padding dropped."""
        if self.reverse:
            cut = cut.flip(0, 1)
        series = cut.transpose(0, 1).reshape(self.intervals * self.interval_length, *cut.shape[2:])
        return series[: self.steps]

    def valid_steps(self, valid: Tensor | None, like: Tensor) -> Tensor | None:
        """Return 1 for valid and 0 for invalid steps as (c, n, B or 1, 1) of `like`'s dtype; None if all are.

        `valid` (steps, B) is true within each sequence's length; None where no lengths were given.
        """
        if valid is None:
            if not self.padding:
                return None
            valid = torch.ones((self.steps, 1), dtype=torch.bool, device=like.device)
        return self.to_intervals(valid.to(like.dtype).unsqueeze(-1))
