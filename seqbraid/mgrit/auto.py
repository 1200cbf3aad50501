"""A solver for a layer's size and a number of ranks, chosen by a model of the costs.

How exact one iteration is depends on how long the network remembers, which no size tells: relaxation is
exact over the interval or two that it reaches back, and the coarse level stands for all before. So the
longest intervals are taken of those that cost about the same, and the user can say how long the memory is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seqbraid.mgrit.costs import Costs
from seqbraid.mgrit.grid import interval_count
from seqbraid.mgrit.options import MGRIT, require_integer

__all__ = ["Choice", "choose"]

# Steps that the intervals of all iterations together must have: fewer are too few for any trained network.
_LEAST_REACH = 16
# Intervals so long that a state at rest is no worse a guess than the coarse solution, which costs a sequence.
_LONG = 128
# Times by which longer intervals may be slower than the fastest candidate, and the exact solver.
_TOLERATED = 1.15
_EXACT_TOLERATED = 1.2
_MOST_ITERATIONS = 3
_MOST_LEVELS = 3
# Intervals a rank that are tried besides the powers of two and thrice those, so that all ranks have as many.
_INTERVALS_A_RANK = (1, 2, 3, 4, 6, 8, 12, 16)
_ALTERNATIVES = 3


@dataclass(frozen=True)
class Choice:
    """A solver, what a forward and backward pass takes with it, and the next best others with their seconds.

    `serial_seconds` are those of one rank.
    """

    solver: MGRIT
    predicted_seconds: float
    serial_seconds: float
    alternatives: tuple[tuple[MGRIT, float], ...]
    size: str

    @property
    def speedup(self) -> float:
        """The predicted speedup over one rank."""
        return self.serial_seconds / self.predicted_seconds

    def __str__(self) -> str:
        """Say what was chosen, and what else there was."""
        lines = [
            f"auto, for {self.size}: {_name(self.solver)}",
            f"predicted {_milliseconds(self.predicted_seconds)} a pass, on one rank "
            f"{_milliseconds(self.serial_seconds)}: speedup {self.speedup:.1f}",
            f"because it is {self._reason()}",
        ]
        if self.alternatives:
            others = [f"{_name(solver)}, {_milliseconds(seconds)}" for solver, seconds in self.alternatives]
            lines.append("next: " + "; ".join(others))
        return "\n".join(lines)

    def _reason(self) -> str:
        if self.solver.levels > 1:
            return f"the one with the longest intervals within {_TOLERATED - 1:.0%} of the fastest"
        if self.alternatives:
            return f"exact, and no other {_EXACT_TOLERATED:g} times as fast"
        return "exact; for intervals there are too few ranks or steps, or the memory is too long"


def choose(
    T: int,
    B: int,
    H: int,
    ranks: int,
    inputs: int | None = None,
    memory: float | None = None,
    latency: float = 2e-6,
    bandwidth: float = 10e9,
) -> Choice:
    """Choose coarsening, levels, iterations and initial guess; see `MGRIT.auto`.

    `levels` is 1, the exact serial solver as a pipeline over the ranks, where the others gain too little.
    """
    inputs = H if inputs is None else inputs
    for name, value in (("T", T), ("B", B), ("H", H), ("ranks", ranks), ("inputs", inputs)):
        require_integer(name, value, 1)
    _require_numbers(memory, latency, bandwidth)
    costs = Costs(T, B, inputs, H, ranks, latency, bandwidth)
    exact = MGRIT(levels=1)
    serial = Costs(T, B, inputs, H, 1, latency, bandwidth).of(exact)
    rated = {exact: costs.of(exact)}
    if ranks > 1:
        rated |= {solver: costs.of(solver) for solver in _candidates(T, ranks, memory)}
    solver = _pick(rated, exact)
    others = sorted((seconds, each.coarsening, each) for each, seconds in rated.items() if each != solver)
    size = f"T={T} B={B} I={inputs} H={H} on {ranks} rank{'s' if ranks > 1 else ''}"
    alternatives = tuple((each, seconds) for seconds, _, each in others[:_ALTERNATIVES])
    return Choice(solver, rated[solver], serial, alternatives, size)


def _require_numbers(memory: float | None, latency: float, bandwidth: float) -> None:
    if memory is not None and not 0 < memory < math.inf:
        raise ValueError(f"memory is {memory!r}; expected a positive number of steps, or None")
    if not 0 <= latency < math.inf:
        raise ValueError(f"latency is {latency!r}; expected seconds, at least 0")
    if not bandwidth > 0:
        raise ValueError(f"bandwidth is {bandwidth!r}; expected bytes a second, more than 0")


def _candidates(T: int, ranks: int, memory: float | None) -> list[MGRIT]:
    """Return the solvers on several levels to look at; none that leaves a rank idle, if there are others."""
    reach = max(_LEAST_REACH, 0.0 if memory is None else 2 * memory)
    found = []
    for coarsening in _coarsenings(T, ranks):
        intervals = interval_count(T, coarsening)
        for iterations in range(1, _MOST_ITERATIONS + 1):
            # Iterations that reach from end to end solve the whole sequence more than once.
            if coarsening * iterations < reach or intervals <= 2 * iterations:
                continue
            at_rest = coarsening >= _LONG and (memory is None or coarsening >= memory)
            for levels in range(2, _MOST_LEVELS + 1):
                if levels > 2 and interval_count(intervals, coarsening ** (levels - 2)) < 2:
                    break
                found.append(
                    MGRIT(
                        coarsening=coarsening,
                        levels=levels,
                        forward_iterations=iterations,
                        backward_iterations=iterations,
                        initial_guess="zero" if at_rest else "coarse",
                    )
                )
    return [each for each in found if interval_count(T, each.slice_multiple) >= ranks] or found


def _coarsenings(T: int, ranks: int) -> list[int]:
    """Return lengths of intervals to try."""
    found = {factor * 2**power for power in range(2, max(3, T.bit_length())) for factor in (1, 3)}
    found |= {math.ceil(T / (ranks * count)) for count in _INTERVALS_A_RANK}
    return sorted(each for each in found if 4 <= each < T)


def _pick(rated: Mapping[MGRIT, float], exact: MGRIT) -> MGRIT:
    """Return the exact solver if it costs little more than the fastest, else the longest such intervals."""
    fastest = min(rated.values())
    if rated[exact] <= _EXACT_TOLERATED * fastest:
        return exact
    near = [each for each, seconds in rated.items() if each != exact and seconds <= _TOLERATED * fastest]
    return max(near, key=lambda each: (each.coarsening, -each.forward_iterations, -each.levels))


def _name(solver: MGRIT) -> str:
    if solver.levels == 1:
        return "levels=1"
    name = f"coarsening={solver.coarsening}, {solver.initial_guess} guess"
    if solver.levels > 2:
        name += f", levels={solver.levels}"
    if solver.forward_iterations > 1:
        name += f", {solver.forward_iterations} + {solver.backward_iterations} iterations"
    return name


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
