"""One pass of a layer on simulated ranks, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.bench.layer import Layer, forward_backward, gradient_of
from seqbraid.comm import Communicator, SimulatedWorld
from seqbraid.comm.simulated_communicator import SimulatedCommunicator
from seqbraid.mgrit import local_slice
from seqbraid.options import MGRIT, Serial

__all__ = ["SimulatedPass", "simulate"]


@dataclass(frozen=True)
class SimulatedPass:
    """A forward and backward pass: virtual seconds of the slowest rank, and its results.

    `compute_seconds` and `communication_seconds` (waiting included) are sums over the ranks, the setting-up
    of the module left out. `output` is that of all ranks together, `gradient` that of all weights.
    """

    seconds: float
    compute_seconds: float
    communication_seconds: float
    output: Tensor
    gradient: Tensor
    forward_residual: float
    backward_residual: float

    @property
    def compute_to_communication(self) -> float | None:
        """The ratio of the two; None where nothing was communicated."""
        return self.compute_seconds / self.communication_seconds if self.communication_seconds else None


@dataclass(frozen=True)
class _OfRank:
    """What one rank has to tell."""

    seconds: float
    communication_seconds: float
    output: Tensor
    gradient: Tensor
    residuals: tuple[float, float]


def simulate(layer: Layer, solver: Serial | MGRIT, world: SimulatedWorld) -> SimulatedPass:
    """Run one pass on the ranks of `world`; each builds its module and takes its slice before the start."""

    def on_rank(comm: Communicator) -> _OfRank:
        assert isinstance(comm, SimulatedCommunicator)
        module = layer.module(solver, comm)
        x = layer.series[local_slice(layer.size.T, comm, solver)]
        comm.barrier("start of the measured pass")
        start, communicated = comm.clock(), comm.communication_seconds
        output = forward_backward(module, x)
        seconds = comm.clock() - start
        solve = module.last_solve
        return _OfRank(
            seconds,
            comm.communication_seconds - communicated,
            output.detach(),
            gradient_of(module),
            (solve.forward_residual, solve.backward_residual),
        )

    ranks = world.run(on_rank)
    communication = sum(rank.communication_seconds for rank in ranks)
    return SimulatedPass(
        max(rank.seconds for rank in ranks),
        sum(rank.seconds for rank in ranks) - communication,
        communication,
        torch.cat([rank.output for rank in ranks]),
        ranks[0].gradient,
        *ranks[0].residuals,
    )
