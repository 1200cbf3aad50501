"""What a forward and backward pass of one layer costs by a small model: the seconds of its slowest rank.

The constants are those of the fused float32 kernels on one core of a server processor of 2020 (about 95 billion
operations a second in matrix products). Another processor shifts all candidates alike, a network only those that
use it, so what is cheapest changes less than the seconds do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqbraid.mgrit.options import MGRIT

__all__ = ["Costs"]

# Operations a second in products of at least `_FULL_ROWS` rows, and in the sums over all steps: input, gradients.
_STEP_RATE = 95e9
_SUM_RATE = 85e9
_FULL_ROWS = 4
# A product of one row costs as much as one of two, and weights are read anew for it.
_ONE_ROW, _FEW_ROWS = 2.3, 1.25
# Seconds a row and step besides the product, and those a row, step and hidden unit.
_FORWARD = (70e-9, 1.6e-9)
_KEEP = (45e-9, 1.0e-9)
_ADJOINT = (45e-9, 0.8e-9)
_GATES = (20e-9, 0.6e-9)
# More of a coarse step: its source, its states, and a power whose squarings grow with log2 of the interval.
_COARSE = (130e-9, 0.7e-9)
_SQUARING = 0.15e-9
# Seconds a step, whatever its rows.
_STEP = 0.1e-6
# Seconds for each input element that is averaged over an interval, or element that is rearranged for a product.
_ELEMENT = 0.5e-9
# Python and PyTorch around the kernels: a module's pass, and each sweep, coarse solve or message.
_MODULE = 0.7e-3
_CALL = 60e-6


@dataclass(frozen=True)
class Costs:
    """Seconds of passes over T steps of B sequences with I inputs and H hidden units, on `ranks` ranks.

    Messages take `latency` seconds and their bytes, four an element, by `bandwidth`.
    """

    T: int
    B: int
    I: int  # noqa: E741
    H: int
    ranks: int
    latency: float
    bandwidth: float

    def of(self, solver: MGRIT) -> float:
        """Return the seconds of a forward and backward pass with a loss on the last state."""
        return self._serial() if solver.levels == 1 else self._mgrit(solver)

    def _serial(self) -> float:
        share = math.ceil(self.T / self.ranks)
        sweep = share * self._step(self.B, _FORWARD)
        adjoint = share * self._step(self.B, _ADJOINT)
        seconds = _MODULE + self._inputs(share) + self._gradients(share)
        seconds += sweep + share * self._more(self.B, _KEEP) + adjoint + share * self._more(self.B, _GATES)
        if self.ranks > 1:
            # The last rank waits for all others, whose sweeps keep nothing; each hands one state on.
            seconds += (self.ranks - 1) * (sweep + adjoint + 2 * (_CALL + self._message(self.B * self.H)))
            seconds += self._closing_sums() + 4 * _CALL
        return seconds

    def _mgrit(self, solver: MGRIT) -> float:
        c, multiple = solver.coarsening, solver.slice_multiple
        # The most that a rank holds: steps, and intervals of the first level.
        steps = min(self.T, math.ceil(math.ceil(self.T / multiple) / self.ranks) * multiple)
        rows = math.ceil(steps / c) * self.B
        length = min(c, self.T)
        forward, adjoint = length * self._step(rows, _FORWARD), length * self._step(rows, _ADJOINT)
        seconds = _MODULE + self._inputs(steps) + self._gradients(steps)
        # The coarse level's inputs are averaged before they are projected.
        seconds += steps * self.B * self.I * _ELEMENT + self._inputs(math.ceil(steps / c)) + 20 * _CALL
        # The last sweeps, those that keep; about the states of the forward one the adjoint is linearised.
        seconds += forward + length * self._more(rows, _KEEP) + adjoint + length * self._more(rows, _GATES)
        seconds += self._coarse_step(rows, solver, _FORWARD)
        sweeps = 2 if solver.relaxation == "FCF" else 1
        guess = 1 if solver.initial_guess == "coarse" else 0
        for iterations, sweep, kind, width in (
            (solver.forward_iterations, forward, _FORWARD, 3),
            (solver.backward_iterations, adjoint, _ADJOINT, 5),
        ):
            messages = iterations * (_CALL + self._message(self.B * self.H)) if sweeps == 2 else 0.0
            seconds += iterations * (sweeps * (sweep + _CALL) + self._coarse_step(rows, solver, kind)) + messages
            seconds += (guess + iterations) * self._coarse_solve(steps, solver, kind, guess > 0)
            seconds += self._gather(solver, width) + iterations * self._gather(solver, 1)
        return seconds + self._closing_sums()

    def _coarse_solve(self, steps: int, solver: MGRIT, kind: tuple[float, float], guess: bool) -> float:
        """Return the seconds of the coarsest level's sequence and of the relaxations on the levels between."""
        coarsest = math.ceil(self.T / (solver.slice_multiple * (solver.coarsening if solver.levels > 2 else 1)))
        coarsest = math.ceil(self.T / solver.coarsening ** (solver.levels - 1))
        seconds = coarsest * self._coarse_step(self.B, solver, kind) + _CALL
        for level in range(1, solver.levels - 1):
            rows = math.ceil(steps / solver.coarsening ** (level + 1)) * self.B
            sweep = solver.coarsening * self._coarse_step(rows, solver, kind) + 2 * _CALL
            # Two relaxations and the propagators at once before the level below, one after it.
            seconds += 3 * sweep + self._coarse_step(rows, solver, kind) + self._message(self.B * self.H)
        return seconds

    def _coarse_step(self, rows: int, solver: MGRIT, kind: tuple[float, float]) -> float:
        each, unit = _COARSE if kind is _FORWARD else _KEEP
        unit += _SQUARING * math.log2(solver.coarsening) if kind is _FORWARD else 0.0
        return self._step(rows, kind) + self._more(rows, (each, unit))

    def _step(self, rows: int, kind: tuple[float, float]) -> float:
        """Return the seconds of a step of so many rows."""
        slower = _ONE_ROW if rows == 1 else _FEW_ROWS if rows < _FULL_ROWS else 1.0
        return _STEP + rows * slower * 6 * self.H**2 / _STEP_RATE + self._more(rows, kind)

    def _more(self, rows: int, kind: tuple[float, float]) -> float:
        return rows * (kind[0] + kind[1] * self.H)

    def _inputs(self, steps: int) -> float:
        """Return the seconds of the projection of so many steps' inputs."""
        return steps * self.B * 6 * self.H * self.I / _SUM_RATE

    def _gradients(self, steps: int) -> float:
        """Return the seconds of the sums over so many steps that make the weights' gradients."""
        flops = 6 * self.H * (self.H + self.I)
        return steps * self.B * (flops / _SUM_RATE + 8 * self.H * _ELEMENT)

    def _message(self, elements: float) -> float:
        return self.latency + 4 * elements / self.bandwidth if self.ranks > 1 else 0.0

    def _rounds(self) -> int:
        return (self.ranks - 1).bit_length()

    def _gather(self, solver: MGRIT, width: int) -> float:
        """Return the seconds until all ranks have all of the coarsest level's steps, `width` H numbers a row."""
        if self.ranks == 1:
            return 0.0
        elements = math.ceil(self.T / solver.slice_multiple) * self.B * width * self.H
        return self._rounds() * self.latency + 4 * elements / self.bandwidth + _CALL

    def _closing_sums(self) -> float:
        """Return the seconds in which slices' lengths, the last state and the gradients go round."""
        elements = 3 * self.H * (self.H + self.I + 2) + 2 * self.B * self.H
        return self._rounds() * (3 * self.latency + 4 * elements / self.bandwidth)
