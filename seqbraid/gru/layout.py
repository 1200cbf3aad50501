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

    The last interval is filled up with steps that are marked invalid, and which leave every state alone.
    """

    steps: int
    interval_length: int

    @staticmethod
    def of(steps: int, solver: Serial | MGRIT) -> Layout:
        """Return the layout for a solver; a serial one takes the whole slice as one interval, uncopied."""
        return Layout(steps, solver.coarsening if isinstance(solver, MGRIT) else max(steps, 1))

    @property
    def intervals(self) -> int:
        """The number n of intervals, short last one included."""
        return -(-self.steps // self.interval_length)

    @property
    def padding(self) -> int:
        """The number of invalid steps at the end of the last interval."""
        return self.intervals * self.interval_length - self.steps

    def to_intervals(self, series: Tensor) -> Tensor:
        """Return (steps, ...) as contiguous (c, n, ...), zeros in the padding."""
        if self.padding:
            zeros = series.new_zeros((self.padding, *series.shape[1:]))
            series = torch.cat([series, zeros])
        cut = series.reshape(self.intervals, self.interval_length, *series.shape[1:])
        return cut.transpose(0, 1).contiguous()

    def from_intervals(self, cut: Tensor) -> Tensor:
        """Return (c, n, ...) as (steps, ...), the padding dropped."""
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
