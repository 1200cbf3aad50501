"""Parameters held everywhere and owned ones beside several data groups."""

import pytest
import torch
from solve.test_scalar_equation import FORCES, STARTS, WEIGHTS, C, Model, T

import seqbraid as sb
from seqbraid.comm import ProcessGrid
from seqbraid.mgrit import Partition
from seqbraid.solve import Divergence, GradientSums, SolvePlan, solve

SOLVER = sb.MGRIT(coarsening=C, tolerance=1e-14)


def gradients(comm, data):
    grid = ProcessGrid(comm, data=data)
    held = sb.local_slice(T, grid, C)
    partition = Partition(
        tuple(grid.sequence.all_gather_objects(held.stop - held.start, "lengths")), grid.sequence.rank
    )
    divergence = Divergence(SOLVER, grid)
    leaves = *map(torch.nn.Parameter, STARTS.clone()), torch.nn.Parameter(FORCES[held])
    sums = GradientSums.of(grid, 1, divergence)
    (start, dt, forces), places = leaves, [None] * 3
    if sums is not None:
        (start, dt, forces), places = sums.enter(leaves)
    plan = SolvePlan(
        Model(), SOLVER, grid, partition, sb.SolveReport(), divergence, sums=sums, places=places[1:]
    )
    states, end = solve(plan, start, [dt, forces])
    # Each group has a loss of its own.
    loss = (1 + grid.data.rank) * (WEIGHTS[held] @ states + end**2)
    return torch.autograd.grad(loss, leaves)


def test_owned_gradients_are_summed_over_the_groups_alone():
    (truth,) = sb.SimulatedWorld(1).run(lambda comm: gradients(comm, 1))
    found = sb.SimulatedWorld(4).run(lambda comm: gradients(comm, 2))
    for rank, (of_start, of_dt, of_forces) in enumerate(found):
        group, place = divmod(rank, 2)
        torch.testing.assert_close(of_start, (1 + group) * truth[0], rtol=1e-11, atol=0)
        torch.testing.assert_close(of_dt, 3 * truth[1], rtol=1e-11, atol=0)
        own = slice(place * T // 2, (place + 1) * T // 2)
        torch.testing.assert_close(of_forces, 3 * truth[2][own], rtol=1e-11, atol=1e-14)


def test_several_groups_without_common_sums_are_refused():
    def refused(comm):
        grid = ProcessGrid(comm, data=2)
        divergence = Divergence(SOLVER, grid)
        plan = SolvePlan(Model(), SOLVER, grid, Partition((T,), 0), sb.SolveReport(), divergence)
        with pytest.raises(ValueError, match="no sums for 2 data groups"):
            solve(plan, STARTS[0], [STARTS[1], FORCES])

    sb.SimulatedWorld(2).run(refused)


def test_one_group_may_solve_again_in_sequence(monkeypatch):
    """The others must not wait for it: what is owned is summed once, when that is decided."""
    (truth,) = sb.SimulatedWorld(1).run(lambda comm: gradients(comm, 1))
    decide = Divergence.wants_serial

    def first_group_diverges(self, entry, dtype, name, direction, solver, put_off):
        if direction == "backward" and self._grid.data.rank == 0:
            return True
        return decide(self, entry, dtype, name, direction, solver, put_off)

    monkeypatch.setattr(Divergence, "wants_serial", first_group_diverges)
    for ranks in (2, 4):
        found = sb.SimulatedWorld(ranks).run(lambda comm: gradients(comm, 2))
        torch.testing.assert_close(found[0][1], 3 * truth[1], rtol=1e-11, atol=0)
        of_first_group = torch.cat([each[2] for each in found[: ranks // 2]])
        torch.testing.assert_close(of_first_group, 3 * truth[2], rtol=1e-11, atol=1e-14)


def test_a_group_that_diverges_is_raised_on_all_ranks():
    def refused(comm):
        grid = ProcessGrid(comm, data=2)
        solver = sb.MGRIT(coarsening=C, forward_iterations=3)
        plan = SolvePlan(
            Model(), solver, grid, Partition((T,), 0), sb.SolveReport(), Divergence(solver, grid), keep=False
        )
        forces = FORCES * (torch.nan if grid.data.rank == 0 else 1.0)
        expected = "another data group" if grid.data.rank else "logistic equation: the forward solve diverged"
        with torch.no_grad(), pytest.raises(sb.SolverDivergedError, match=expected):
            solve(plan, STARTS[0], [STARTS[1], forces])

    sb.SimulatedWorld(2).run(refused)
