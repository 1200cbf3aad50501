"""Sums over all steps of a GRU layer's gate cotangents: the gradients of its weights and of its input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["GRUGradients"]


class GRUGradients:
    """See `GradientAccumulator`: gradients of x, W_ih, W_hh, b_ih and b_hh, where there are biases.

    The weights' are summed as their transposes: a product whose short side is the number of inputs is several
    times slower the other way round.
    """

    def __init__(self, x: Tensor, w_ih: Tensor, needs: Sequence[bool]) -> None:
        hidden, inputs = w_ih.shape[0] // 3, w_ih.shape[1]
        self._x = x
        self._w_ih = w_ih
        self._hidden = hidden
        of_x, of_w_ih, of_w_hh = needs[:3]
        self._of_biases = tuple(needs[3:])
        self._of_x = torch.empty_like(x, memory_format=torch.contiguous_format) if of_x else None
        self._of_w_ih = w_ih.new_zeros((inputs, 3 * hidden)) if of_w_ih else None
        self._of_w_hh = w_ih.new_zeros((hidden, 3 * hidden)) if of_w_hh else None
        self._sums = w_ih.new_zeros(4 * hidden) if any(self._of_biases) else None

    @property
    def needs_states(self) -> bool:
        """Whether the states before each step are asked for."""
        return self._of_w_hh is not None

    def add(self, times: slice, cotangents: Tensor, before: Tensor | None, counts: Tensor | None) -> None:
        """Add gate cotangents (t, B, 4, H), 0 past a sequence's end; `before` (t, B, H) are states."""
        r_and_z = 2 * self._hidden
        flat = cotangents.view(-1, 4 * self._hidden)
        x = self._x[times].reshape(len(flat), -1)
        if self._of_x is not None:
            of_x = torch.mm(flat[:, :r_and_z], self._w_ih[:r_and_z])
            of_x.addmm_(flat[:, r_and_z + self._hidden :], self._w_ih[r_and_z:])
            self._of_x[times] = of_x.view_as(self._of_x[times])
        if self._of_w_ih is not None:
            self._of_w_ih[:, :r_and_z].addmm_(x.t(), flat[:, :r_and_z])
            self._of_w_ih[:, r_and_z:].addmm_(x.t(), flat[:, r_and_z + self._hidden :])
        if self._of_w_hh is not None and before is not None:
            self._of_w_hh.addmm_(before.view(len(flat), -1).t(), flat[:, : r_and_z + self._hidden])
        if self._sums is not None:
            self._sums += flat.sum(dim=0)

    def gradients(self) -> list[Tensor | None]:
        """See `GradientAccumulator.gradients`."""
        r_and_z, hidden = 2 * self._hidden, self._hidden
        found = [
            self._of_x,
            None if self._of_w_ih is None else self._of_w_ih.t().contiguous(),
            None if self._of_w_hh is None else self._of_w_hh.t().contiguous(),
        ]
        if self._of_biases:
            of_b_ih, of_b_hh = self._of_biases
            sums = self._sums
            found += [
                torch.cat([sums[:r_and_z], sums[r_and_z + hidden :]])
                if of_b_ih and sums is not None
                else None,
                sums[: r_and_z + hidden].clone() if of_b_hh and sums is not None else None,
            ]
        return found
