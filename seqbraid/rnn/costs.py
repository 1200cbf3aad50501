"""What a forward and backward pass of one layer costs by a small model: the seconds of its slowest rank.

The constants are those of the fused float32 kernels on one core of a server processor of 2020. Another
processor shifts all candidates about alike, so what is cheapest changes less than the seconds do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from seqbraid.mgrit import interval_count
from seqbraid.options import MGRIT, Serial

__all__ = ["Costs"]

# Operations a second in the products of a step, and in those over many steps: projected inputs, gradients.
_STEP_RATE = 95e9
_SUM_RATE = 85e9
# By how much a step's product is slower with one row, which reads all weights for itself, and with few.
_ONE_ROW = 2.3
_FEW_ROWS, _FULL_ROWS = 1.25, 4
# Seconds a row of a step besides the product, and those a row and hidden unit. What is kept lies in memory
# that is new to the caches.
_FORWARD = (70e-9, 1.6e-9)
_KEEP = (45e-9, 2.0e-9)
_ADJOINT = (45e-9, 1.4e-9)
_GATE = (20e-9, 1.2e-9)
# What a coarse step has besides: a source, states, and a power, whose squarings are log2 of the interval.
_COARSE = (130e-9, 0.7e-9)
_SQUARING = 0.15e-9
# Seconds a step, whatever its rows.
_STEP = 0.1e-6
# Seconds for a number that is averaged, copied or rearranged.
_ELEMENT = 0.5e-9
# Python and PyTorch around the kernels: a module's pass, what MGRIT adds, and each sweep or message.
_MODULE = 0.7e-3
_SOLVER = 1.0e-3
_CALL = 80e-6
# Delay of a rank that waited for one other, and of all that wait for the slowest, a round of a collective.
_HOP = 150e-6
_WAIT = 60e-6


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

    def of(self, solver: Serial | MGRIT) -> float:
        """Return the seconds of a forward and backward pass with a loss on the last state."""
        if isinstance(solver, Serial) or solver.levels == 1:
            return self._serial()
        return self._mgrit(solver)

    def _serial(self) -> float:
        steps = math.ceil(self.T / self.ranks)
        sweep = steps * self._step(self.B, _FORWARD)
        adjoint = steps * self._step(self.B, _ADJOINT)
        seconds = _MODULE + self._inputs(steps) + self._gradients(steps)
        seconds += sweep + steps * self._more(self.B, _KEEP) + adjoint + steps * self._more(self.B, _GATE)
        if self.ranks > 1:
            # The last rank waits for all others, whose sweeps keep nothing; each hands one state on.
            hop = _HOP + self._message(self.B * self.H)
            seconds += (min(self.ranks, self.T) - 1) * (sweep + adjoint + 2 * hop)
            seconds += self._closing_sums()
        return seconds

    def _mgrit(self, solver: MGRIT) -> float:
        c, multiple = solver.coarsening_of(0), solver.slice_multiple
        # The most that a rank holds: steps, and intervals of the first level.
        steps = min(self.T, math.ceil(interval_count(self.T, multiple) / self.ranks) * multiple)
        rows = interval_count(steps, c) * self.B
        length = min(c, self.T)
        forward, adjoint = length * self._step(rows, _FORWARD), length * self._step(rows, _ADJOINT)
        seconds = _MODULE + _SOLVER + self._inputs(steps) + self._gradients(steps)
        # The coarse level's inputs are averaged before they are projected.
        seconds += steps * self.B * self.I * _ELEMENT + self._inputs(interval_count(steps, c))
        # The last sweeps, those that keep; about the states of the forward one the adjoint is linearised.
        seconds += forward + length * self._more(rows, _KEEP) + adjoint + length * self._more(rows, _GATE)
        seconds += self._coarse_step(rows, solver, _FORWARD)
        sweeps = 2 if solver.relaxation_of(0) == "FCF" else 1
        guess = 1 if solver.initial_guess == "coarse" else 0
        for iterations, sweep, kind, width in (
            (solver.forward_iterations, forward, _FORWARD, 3),
            (solver.backward_iterations, adjoint, _ADJOINT, 5),
        ):
            relaxation = sweeps * (sweep + _CALL) + (sweeps - 1) * self._message(self.B * self.H)
            tau = self._coarse_step(rows, solver, kind) + self._gather(solver, 1)
            seconds += iterations * (relaxation + tau) + self._gather(solver, width)
            seconds += (guess + iterations) * self._coarse_solve(steps, solver, kind)
        return seconds + self._closing_sums()

    def _coarse_solve(self, steps: int, solver: MGRIT, kind: tuple[float, float]) -> float:
        """Return the seconds of the coarsest level in sequence and of the relaxations on those above it."""
        coarsest = interval_count(self.T, solver.slice_multiple)
        seconds = coarsest * self._coarse_step(self.B, solver, kind) + _CALL
        for level in range(1, solver.levels - 1):
            rows = interval_count(steps, solver.fine_steps_of(level + 1)) * self.B
            sweep = solver.coarsening_of(level) * self._coarse_step(rows, solver, kind) + 2 * _CALL
            # Two relaxations and the propagators at once before the level below, one after it.
            seconds += 3 * sweep + self._coarse_step(rows, solver, kind) + self._message(self.B * self.H)
        return seconds

    def _coarse_step(self, rows: int, solver: MGRIT, kind: tuple[float, float]) -> float:
        each, unit = _COARSE if kind is _FORWARD else _KEEP
        unit += _SQUARING * math.log2(solver.coarsening_of(0)) if kind is _FORWARD else 0.0
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
        """Return the seconds until all ranks have the coarsest level's steps, `width` H numbers a row."""
        if self.ranks == 1:
            return 0.0
        elements = interval_count(self.T, solver.slice_multiple) * self.B * width * self.H
        rounds = self._rounds() * (self.latency + _WAIT)
        return rounds + elements * (4 / self.bandwidth + 2 * _ELEMENT) + _CALL

    def _closing_sums(self) -> float:
        """Return the seconds in which slices' lengths, the last state and the gradients go round."""
        elements = 3 * self.H * (self.H + self.I + 2) + 2 * self.B * self.H
        return self._rounds() * (3 * (self.latency + _WAIT) + 4 * elements / self.bandwidth)
