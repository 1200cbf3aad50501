"""MGRIT on the real ranks of a job, against our serial path on one of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from seqbraid.bench.layer import Layer, Size, forward_backward, gradient_of, relative_error
from seqbraid.bench.simulated import simulate
from seqbraid.bench.stopwatch import Times, stopwatch, without_collector
from seqbraid.comm import Communicator, SimulatedWorld
from seqbraid.mgrit import MGRIT, Serial, local_slice

__all__ = ["ParallelRun", "measure_parallel"]


@dataclass(frozen=True)
class ParallelRun:
    """Passes of MGRIT over the ranks, and of the serial path on rank 0 alone with one thread.

    `mgrit` holds the times of each rank; the slowest one's median is the job's. `communication_fraction` is
    the fraction of its pass that each rank's solves spent in messages and waiting. `simulated` is what a
    `SimulatedWorld` of as many ranks predicts, None where it was not asked.
    """

    size: Size
    serial: Times
    mgrit: tuple[Times, ...]
    communication_fraction: tuple[float, ...]
    forward_residual: float
    backward_residual: float
    gradient_error: float
    simulated: Times | None

    @property
    def slowest(self) -> Times:
        """The times of the rank with the largest median."""
        return max(self.mgrit, key=lambda times: times.median)

    @property
    def speedup(self) -> float:
        """Serial seconds over those of the job."""
        return self.serial.median / self.slowest.median

    @property
    def simulated_over_measured(self) -> float | None:
        """Predicted seconds over measured ones."""
        return None if self.simulated is None else self.simulated.median / self.slowest.median


def measure_parallel(
    layer: Layer,
    solver: Serial | MGRIT,
    comm: Communicator,
    repeats: int,
    world: SimulatedWorld | None = None,
    tick: Callable[[], object] = lambda: None,
) -> ParallelRun:
    """Measure in turn the serial path, MGRIT, and with `world` its prediction; collective.

    The ranks that are not measured wait in a barrier. Every rank returns the same. `tick` is called after
    each round, of which the first is not counted.
    """
    module = layer.module(solver, comm)
    x = layer.series[local_slice(layer.size.T, comm, solver)]
    alone = layer.module(Serial()) if comm.rank == 0 else None
    serial: list[float] = []
    mgrit: list[float] = []
    fractions: list[float] = []
    simulated: list[float] = []
    with without_collector() as collect:
        for _ in range(repeats + 1):
            if alone is not None:
                with _one_thread():
                    serial.append(stopwatch(lambda: forward_backward(alone, layer.series))())
                    if world is not None:
                        simulated.append(simulate(layer, solver, world).seconds)
            collect()
            comm.barrier("bench: waiting for rank 0's serial pass")
            mgrit.append(stopwatch(lambda: forward_backward(module, x))())
            solves = module.last_solve.forward + module.last_solve.backward
            fractions.append(sum(solve.communication_seconds for solve in solves) / mgrit[-1])
            comm.barrier("bench: end of a parallel pass")
            tick()
    error = None if alone is None else relative_error(gradient_of(module), gradient_of(alone))
    of_ranks = comm.all_gather_objects(
        (serial[1:], mgrit[1:], statistics.median(fractions[1:]), simulated[1:], error), "bench: gathering"
    )
    serial, _, _, simulated, error = of_ranks[0]
    return ParallelRun(
        layer.size,
        Times(tuple(serial)),
        tuple(Times(tuple(seconds)) for _, seconds, _, _, _ in of_ranks),
        tuple(fraction for _, _, fraction, _, _ in of_ranks),
        module.last_solve.forward_residual,
        module.last_solve.backward_residual,
        error,
        Times(tuple(simulated)) if world is not None else None,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
