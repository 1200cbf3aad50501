"""Sweeps over any cell in plain PyTorch: its steps one after the other, differentiated by its own adjoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqbraid.cells import Cell, State, StepCount, checked_step, pull_back, require_states
from seqbraid.kernels.intervals import Intervals
from seqbraid.kernels.loops import sweep_adjoint, sweep_forward
from seqbraid.kernels.protocol import Counts

__all__ = ["GenericSweeps"]


class GenericSweeps:
    """See `Sweeps`. A step's factors are what it takes to do it again: x, the state before, and m."""

    def __init__(self, cell: Cell, parameters: Mapping[str, Tensor]) -> None:
        self._cell = cell
        self._parameters = {name: parameter.detach() for name, parameter in parameters.items()}
        self._coarse = cell.coarse_propagators()
        self._size = sum(cell.state_sizes)
        self._by_hand = type(cell).vjp is not Cell.vjp
        self.factor_shape = (cell.input_size + self._size + 1,)
        self.cotangent_shape = (self._size,)

    def inputs(self, x: Tensor) -> Tensor:
        """See `Sweeps.inputs`: the inputs as they are."""
        return x.detach()

    def project(self, x: Tensor) -> Tensor:
        """See `Sweeps.project`: the inputs as they are."""
        return x.detach()

    def forward(
        self,
        inputs: Tensor,
        points: Tensor,
        intervals: Intervals,
        coarse: str | None = None,
        counts: Counts = 1,
        source: Tensor | None = None,
        states: Tensor | None = None,
        factors: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.forward`."""
        return sweep_forward(
            lambda x, u, m: self._step(x, u, m, coarse),
            _factors,
            inputs,
            points,
            intervals,
            counts,
            source,
            states,
            factors,
        )

    def adjoint(
        self,
        factors: Tensor,
        points: Tensor,
        intervals: Intervals,
        coarse: str | None = None,
        direct: Tensor | None = None,
        source: Tensor | None = None,
        cotangents: Tensor | None = None,
        step_cotangents: Tensor | None = None,
        group: slice | None = None,
    ) -> Tensor:
        """See `Sweeps.adjoint`."""
        return sweep_adjoint(
            lambda factors, cotangent: self._adjoint_step(factors, cotangent, coarse),
            lambda factors, cotangent: cotangent,
            factors,
            points,
            intervals,
            direct,
            source,
            cotangents,
            step_cotangents,
            group,
        )

    def carry(self, factors: Tensor, direct: Tensor, intervals: Intervals) -> Tensor:
        """See `Sweeps.carry`: by a whole sweep, since nothing cheaper is known of a cell."""
        points = direct.new_zeros((intervals.count, *direct.shape[1:]))
        return self.adjoint(factors, points, intervals, direct=direct)

    def coarse_factors(self, factors: Tensor, coarse: str, counts: Counts) -> Tensor:
        """See `Sweeps.coarse_factors`: the adjoint of a coarse step is its derivative."""
        return factors

    def accumulator(self, x: Tensor, needs: Sequence[bool]) -> _Gradients:
        """See `Sweeps.accumulator`."""
        return _Gradients(self._cell, self._parameters, x.detach(), needs)

    def _step(self, x: Tensor, u: Tensor, m: StepCount, coarse: str | None) -> Tensor:
        joined = self._moved(x, u, m, coarse)
        # The state itself, to the bit, where it stands still: padding never changes it.
        return torch.where(m > 0, joined, u) if isinstance(m, Tensor) else joined

    def _moved(self, x: Tensor, u: Tensor, m: StepCount, coarse: str | None) -> Tensor:
        state = split(u, self._cell)
        if coarse is None:
            after = checked_step(self._cell, x, state, self._parameters)
        else:
            after = self._coarse[coarse](x, state, self._parameters, m)
            after = require_states(self._cell, after, state, "coarse propagator")
        return after[0] if len(after) == 1 else torch.cat(after, dim=-1)

    def _adjoint_step(self, factors: Tensor, cotangent: Tensor, coarse: str | None) -> Tensor:
        valid = factors[..., -1] > 0
        if bool(valid.all()):
            return self._pulled_back(factors, cotangent, coarse)
        # Where the state stands still the cotangent does; what a cell makes of padding need not be finite.
        carried = cotangent.clone()
        if bool(valid.any()):
            carried[valid] = self._pulled_back(factors[valid], cotangent[valid], coarse)
        return carried

    def _pulled_back(self, factors: Tensor, cotangent: Tensor, coarse: str | None) -> Tensor:
        """Return the cotangent of the state before steps that count at least one fine step each."""
        inputs = self._cell.input_size
        x, u, m = factors[..., :inputs], factors[..., inputs:-1], factors[..., -1:]
        relaxed = coarse is not None and self._coarse[coarse] == self._cell.relax_implicitly
        if self._by_hand and (coarse is None or relaxed):
            # u+ = (u + m F(u)) / (1 + m), or F(u).
            handed = cotangent * (m / (1.0 + m)) if relaxed else cotangent
            state = split(u, self._cell)
            _, before, _ = self._cell.vjp(x, state, self._parameters, split(handed, self._cell))
            joined = torch.cat(require_states(self._cell, before, state), dim=-1)
            return joined + cotangent / (1.0 + m) if relaxed else joined
        return pull_back(lambda u: (self._moved(x, u, m, coarse),), (u,), (cotangent,))[0]


def _factors(x: Tensor, u: Tensor, m: StepCount) -> Tensor:
    count = m if isinstance(m, Tensor) else u.new_full((*u.shape[:-1], 1), m)
    return torch.cat([x, u, count], dim=-1)


def split(u: Tensor, cell: Cell) -> State:
    """Return the cell's states (..., size) of one vector (..., S)."""
    return torch.split(u, list(cell.state_sizes), dim=-1)


class _Gradients:
    """See `GradientAccumulator`: the cell's own adjoint over all steps of a chunk at once."""

    def __init__(
        self, cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, needs: Sequence[bool]
    ) -> None:
        self._cell, self._parameters, self._x, self._needs = cell, parameters, x, needs
        self._of_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs[0] else None
        self._of_parameters = {
            name: torch.zeros_like(parameter) if wanted else None
            for (name, parameter), wanted in zip(parameters.items(), needs[1:], strict=True)
        }

    @property
    def needs_states(self) -> bool:
        """See `GradientAccumulator.needs_states`."""
        return any(self._needs)

    def add(self, times: slice, cotangents: Tensor, before: Tensor | None, counts: Tensor | None) -> None:
        """See `GradientAccumulator.add`."""
        if before is None:
            return
        x = self._x[times]
        # What a step past a sequence's end hands on has gone through no cell.
        valid = None if counts is None else counts > 0
        chosen = (x, before, cotangents) if valid is None else (x[valid], before[valid], cotangents[valid])
        state, after = split(chosen[1], self._cell), split(chosen[2], self._cell)
        of_x, _, of_parameters = self._cell.vjp(chosen[0], state, self._parameters, after)
        self._check(of_x, chosen[0], of_parameters)
        if self._of_x is not None:
            if valid is None:
                self._of_x[times] = of_x
            else:
                self._of_x[times] = torch.zeros_like(x).masked_scatter_(valid.unsqueeze(-1), of_x)
        for name, gradient in of_parameters.items():
            total = self._of_parameters[name]
            if total is not None:
                total += gradient

    def _check(self, of_x: Tensor, x: Tensor, of_parameters: Mapping[str, Tensor]) -> None:
        """Raise ValueError for what a cell's own adjoint must not return."""
        name = type(self._cell).__name__
        if of_parameters.keys() != self._parameters.keys():
            raise ValueError(
                f"{name}.vjp returned gradients of {sorted(of_parameters)}; expected those of "
                f"{sorted(self._parameters)}"
            )
        pairs = {"x": (of_x, x)}
        pairs |= {key: (gradient, self._parameters[key]) for key, gradient in of_parameters.items()}
        for key, (gradient, value) in pairs.items():
            if gradient.shape != value.shape:
                raise ValueError(
                    f"{name}.vjp returned a gradient of {key} of shape {tuple(gradient.shape)}; expected "
                    f"{tuple(value.shape)}"
                )

    def gradients(self) -> list[Tensor | None]:
        """See `GradientAccumulator.gradients`."""
        return [self._of_x, *self._of_parameters.values()]
