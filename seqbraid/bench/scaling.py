"""Strong scaling on simulated ranks, against our own serial path on one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from seqbraid.bench.layer import Layer, forward_backward, gradient_of, relative_error
from seqbraid.bench.simulated import simulate
from seqbraid.bench.stopwatch import Times, interleave, stopwatch
from seqbraid.comm import SimulatedWorld
from seqbraid.mgrit import MGRIT, Serial, SolverDivergedError, interval_count
from seqbraid.options import NetworkOptions
from seqbraid.rnn.costs import Costs

__all__ = ["ScalingPoint", "fastest_within", "scale"]


@dataclass(frozen=True)
class ScalingPoint:
    """One solver on so many simulated ranks.

    `serial` was measured in turn with it. Where the solve diverged, `times` is None, and so is what follows
    from it. `compute_to_communication` is None on one rank, where nothing is communicated. Errors are
    relative to the serial path's results. `idle_ranks` hold no interval. `chosen` says that the solver was
    found for this number of ranks, `predicted_seconds` what the model of the costs makes of it.
    """

    ranks: int
    coarsening: int
    idle_ranks: int
    serial: Times
    times: Times | None
    compute_to_communication: float | None
    states_error: float | None
    gradient_error: float | None
    forward_residual: float | None
    backward_residual: float | None
    levels: int = 2
    chosen: bool = False
    predicted_seconds: float | None = None

    @property
    def name(self) -> str:
        """What tells the solver from the others: its coarsening, or how it was found."""
        if self.chosen:
            return "auto"
        return "levels 1" if self.levels == 1 else f"coarsening {self.coarsening}"

    @property
    def speedup(self) -> float | None:
        """Serial seconds over virtual seconds, medians both."""
        return None if self.times is None else self.serial.median / self.times.median

    def within(self, error_bound: float) -> bool:
        """Return whether the weight gradients' error is at most the bound."""
        return self.gradient_error is not None and self.gradient_error <= error_bound


def scale(
    layer: Layer,
    solvers: Sequence[MGRIT | Callable[[int], Serial | MGRIT]],
    ranks: Sequence[int],
    repeats: int,
    latency: float = NetworkOptions.latency,
    bandwidth: float = NetworkOptions.bandwidth,
    timer: Callable[[], float] = time.thread_time,
    tick: Callable[[], object] = lambda: None,
) -> list[ScalingPoint]:
    """Measure every solver on every number of ranks; `tick` is called after each pass.

    A solver can be a function of the number of ranks. Rank count by rank count, passes of the serial path and
    of the solvers take turns. `timer` measures all compute; the default one is right for one thread.
    """
    module = layer.module(Serial())
    truth = forward_backward(module, layer.series).detach(), gradient_of(module)
    serial = stopwatch(lambda: forward_backward(module, layer.series), timer)
    points = []
    for count in ranks:
        world = SimulatedWorld(count, latency, bandwidth, timer=timer)
        candidates = []
        for solver in solvers:
            if isinstance(solver, MGRIT):
                candidates.append(_Candidate(layer, solver, world, truth, chosen=False))
            else:
                candidates.append(_Candidate(layer, solver(count), world, truth, chosen=True))
            tick()
        contenders: dict[_Candidate | None, Callable[[], float]] = {None: serial}
        contenders |= {each: each.run for each in candidates if not each.diverged}
        # The candidates have warmed up already.
        times = interleave(contenders, repeats, tick, warm_up=False)
        points += [each.point(times[None], times.get(each)) for each in candidates]
    return points


class _Candidate:
    """A solver on the ranks of `world`, with the errors of a first pass; they are the same every time."""

    def __init__(
        self,
        layer: Layer,
        solver: Serial | MGRIT,
        world: SimulatedWorld,
        truth: tuple[Tensor, Tensor],
        chosen: bool,
    ) -> None:
        self.layer, self.solver, self.world, self.chosen = layer, solver, world, chosen
        self.diverged = False
        self.errors: tuple[float, ...] = ()
        self.ratios: list[float] = []
        try:
            first = simulate(layer, solver, world)
        except SolverDivergedError:
            self.diverged = True
        else:
            self.errors = (
                relative_error(first.output, truth[0]),
                relative_error(first.gradient, truth[1]),
                first.forward_residual,
                first.backward_residual,
            )

    def run(self) -> float:
        """Do a pass and return its virtual seconds."""
        done = simulate(self.layer, self.solver, self.world)
        if done.compute_to_communication is not None:
            self.ratios.append(done.compute_to_communication)
        return done.seconds

    def point(self, serial: Times, times: Times | None) -> ScalingPoint:
        """Return what was found."""
        ranks, size = self.world.ranks, self.layer.size
        intervals = interval_count(size.T, self.solver.slice_multiple)
        costs = Costs(size.T, size.B, size.I, size.H, ranks, self.world.latency, self.world.bandwidth)
        states, gradient, forward, backward = self.errors or (None,) * 4
        return ScalingPoint(
            ranks,
            self.solver.coarsening_of(0) if isinstance(self.solver, MGRIT) else 0,
            max(0, ranks - intervals),
            serial,
            times,
            statistics.median(self.ratios) if self.ratios else None,
            states,
            gradient,
            forward,
            backward,
            self.solver.levels if isinstance(self.solver, MGRIT) else 1,
            self.chosen,
            costs.of(self.solver),
        )


def fastest_within(points: Sequence[ScalingPoint], error_bound: float) -> list[ScalingPoint]:
    """Return for each number of ranks the fastest point with weight gradients within the bound, if any."""
    best: dict[int, ScalingPoint] = {}
    for point in points:
        if point.within(error_bound) and (
            point.ranks not in best or (point.speedup or 0.0) > (best[point.ranks].speedup or 0.0)
        ):
            best[point.ranks] = point
    return list(best.values())
