"""A solver for a layer's size and a number of ranks, chosen by a model of the costs.

How exact one iteration is depends on how long the network remembers, which no size tells: relaxation is
exact over the interval or two that it reaches back, and the coarse level stands for all before. So the
longest intervals are taken of those that cost about the same, and the user can say how long the memory is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from seqbraid.mgrit import interval_count
from seqbraid.options import MGRIT, NetworkOptions, Serial
from seqbraid.options.kinds import Whole, require
from seqbraid.rnn.costs import Costs

__all__ = ["Choice", "auto", "choose"]

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

    solver: Serial | MGRIT
    predicted_seconds: float
    serial_seconds: float
    alternatives: tuple[tuple[Serial | MGRIT, float], ...]
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
        if isinstance(self.solver, MGRIT):
            return f"the one with the longest intervals within {_TOLERATED - 1:.0%} of the fastest"
        if self.alternatives:
            return f"exact, and no other {_EXACT_TOLERATED:g} times as fast"
        return "exact; for intervals there are too few ranks or steps, or the memory is too long"


def auto(
    T: int,
    B: int,
    H: int,
    ranks: int,
    inputs: int | None = None,
    *,
    memory: float | None = None,
    latency: float = NetworkOptions.latency,
    bandwidth: float = NetworkOptions.bandwidth,
) -> Serial | MGRIT:
    """Choose a solver for a GRU layer by a model of the costs, and log it; also `MGRIT.auto`.

    That is `Serial()`, the exact solver as a pipeline over the ranks, where MGRIT gains too little; else an
    `MGRIT` with coarsening, levels, iterations and initial guess.
    The choice goes to the logger "seqbraid" at level INFO; `seqbraid.rnn.auto.choose` returns it.

    Args:
        T: steps of the whole sequence.
        B: sequences.
        H: hidden units.
        ranks: P, over which the sequence is cut.
        inputs: I (default: as many as hidden units).
        memory: steps over which the network remembers, where known: an interval of twice as many is then
            the least for one iteration. Without, see how exact the choice is with `seqbraid verify`.
        latency: seconds of a message (default 2e-6).
        bandwidth: bytes of a message in a second (default 10e9).

    Raises:
        ValueError: for a value outside its range, named in the message.

    """
    choice = choose(T, B, H, ranks, inputs, memory, latency, bandwidth)
    logging.getLogger("seqbraid").info("%s", choice)
    return choice.solver


def choose(
    T: int,
    B: int,
    H: int,
    ranks: int,
    inputs: int | None = None,
    memory: float | None = None,
    latency: float = NetworkOptions.latency,
    bandwidth: float = NetworkOptions.bandwidth,
) -> Choice:
    """Choose a solver, with what there is besides; see `auto`."""
    inputs = H if inputs is None else inputs
    for name, value in (("T", T), ("B", B), ("H", H), ("ranks", ranks), ("inputs", inputs)):
        require(name, value, Whole(1))
    _require_numbers(memory, latency, bandwidth)
    costs = Costs(T, B, inputs, H, ranks, latency, bandwidth)
    exact = Serial()
    serial = Costs(T, B, inputs, H, 1, latency, bandwidth).of(exact)
    rated: dict[Serial | MGRIT, float] = {exact: costs.of(exact)}
    if ranks > 1:
        rated |= {solver: costs.of(solver) for solver in _candidates(T, ranks, memory)}
    solver = _pick(rated, exact)
    others = sorted(
        (seconds, _interval(each), number, each)
        for number, (each, seconds) in enumerate(rated.items())
        if each != solver
    )
    size = f"T={T} B={B} I={inputs} H={H} on {ranks} rank{'s' if ranks > 1 else ''}"
    alternatives = tuple((each, seconds) for seconds, _, _, each in others[:_ALTERNATIVES])
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


def _pick(rated: Mapping[Serial | MGRIT, float], exact: Serial) -> Serial | MGRIT:
    """Return the exact solver if it costs little more than the fastest, else the longest such intervals."""
    fastest = min(rated.values())
    if rated[exact] <= _EXACT_TOLERATED * fastest:
        return exact
    near = [
        each for each, seconds in rated.items() if isinstance(each, MGRIT) and seconds <= _TOLERATED * fastest
    ]
    return max(near, key=lambda each: (each.coarsening_of(0), -each.forward_iterations, -each.levels))


def _interval(solver: Serial | MGRIT) -> int:
    """Return the fine steps of an interval, 0 where there are none."""
    return solver.coarsening_of(0) if isinstance(solver, MGRIT) else 0


def _name(solver: Serial | MGRIT) -> str:
    if isinstance(solver, Serial):
        return "serial"
    name = f"coarsening={solver.coarsening}, {solver.initial_guess} guess"
    if solver.levels > 2:
        name += f", levels={solver.levels}"
    if solver.forward_iterations > 1:
        name += f", {solver.forward_iterations} + {solver.backward_iterations} iterations"
    return name


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


MGRIT.auto = staticmethod(auto)
