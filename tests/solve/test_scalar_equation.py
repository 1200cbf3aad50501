"""A scalar equation, differentiated over ranks: its dt is held everywhere, a force by its step's rank."""

import pytest
import torch
from logistic_equation import LinearLevel, LogisticEquation, euler

import seqbraid as sb
from seqbraid.comm import ProcessGrid
from seqbraid.mgrit import Partition
from seqbraid.solve import Divergence, SolvePlan, solve

T, C = 24, 4
STARTS = torch.tensor([0.3, 0.05], dtype=torch.float64)
FORCES, WEIGHTS = torch.randn(2, T, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Model:
    name, reverse, where = "logistic equation", False, ("everywhere", "owned")

    def forward(self, initial, tensors, options, keep):
        return LogisticEquation.of(*tensors, C if options else len(tensors[1]))

    def adjoint(self, tensors, saved, direct, needs, options, in_sequence):
        shape = (1, -1) if in_sequence else (-1, C)
        return Adjoint(tensors[0], *(each.view(shape) for each in (tensors[1], *saved, direct)))


class Adjoint:
    short_first, together, groups, sweeps = True, 1, (...,), 0.0

    def __init__(self, dt, forces, before, direct):
        self.dt, self.forces, self.before, self.direct = dt, forces, before, direct
        self.intervals, self.cotangents = len(before), torch.empty_like(before)

    def relax(self, points, which, keep, group=None):
        rows, carried = slice(self.intervals - which.stop, self.intervals - which.start), points.flip(0)
        for k in reversed(range(self.before.shape[1])):
            carried = self.cotangents[rows, k] = carried + self.direct[rows, k]
            carried = carried * (1 + self.dt * (1 - 2 * self.before[rows, k]))
        return carried.flip(0)

    def coarse_level(self, for_guess):
        return LinearLevel(1 + C * self.dt * (1 - 2 * self.before[:, 0].flip(0)))

    def gradients(self):
        slopes = self.before * (1 - self.before) + self.forces
        return [(self.cotangents * slopes).sum(), self.dt * self.cotangents.flatten()]


def gradients(comm, solver):
    held, grid = sb.local_slice(T, comm, C), ProcessGrid(comm)
    partition = Partition(tuple(comm.all_gather_objects(held.stop - held.start, "lengths")), comm.rank)
    plan = SolvePlan(Model(), solver, grid, partition, sb.SolveReport(), Divergence(solver, grid))
    start, dt, forces = leaves = *map(torch.nn.Parameter, STARTS.clone()), torch.nn.Parameter(FORCES[held])
    states, end = solve(plan, start, [dt, forces])
    return torch.autograd.grad(WEIGHTS[held] @ states + end**2, leaves)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("solver", [sb.Serial(), sb.MGRIT(coarsening=C, tolerance=1e-14)])
def test_gradients_are_those_of_autograd(ranks, solver):
    start, dt, forces = leaves = *map(torch.nn.Parameter, STARTS.clone()), torch.nn.Parameter(FORCES)
    states = [start]
    for force in forces:
        states.append(euler(states[-1], force, dt))
    truth = torch.autograd.grad(WEIGHTS @ torch.stack(states[1:]) + states[-1] ** 2, leaves)
    of_start, of_dt, of_forces = zip(
        *sb.SimulatedWorld(ranks).run(lambda comm: gradients(comm, solver)), strict=True
    )
    for found, expected in ((of_start, truth[0]), (of_dt, truth[1])):
        torch.testing.assert_close(torch.stack(found), expected.expand(ranks), rtol=1e-11, atol=0)
    torch.testing.assert_close(torch.cat(of_forces), truth[2], rtol=1e-11, atol=1e-14)
