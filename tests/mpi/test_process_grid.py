"""Whatever the grid of sequence x data ranks, results are those of one process."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from reference import relative_error
from torch import nn

import seqbraid as sb

pytestmark = pytest.mark.on_ranks(4)

INPUTS, H, B = 3, 5, 7
SHAPES = [(4, 1), (2, 2), (1, 4)]
CONVERGED = sb.MGRIT(coarsening=4, tolerance=1e-13, max_iterations=60)


def grids(world: Any) -> list[sb.ProcessGrid]:
    """Return every grid of the job."""
    return [sb.ProcessGrid(world, S, D) for S, D in SHAPES]


def solve(
    grid: sb.ProcessGrid | None,
    solver: sb.Serial | sb.MGRIT,
    T: int,
    layers: int,
    lengths: list[int] | None,
    **options: object,
) -> list[list[torch.Tensor]]:
    """Return what is cut in time and batch, what in the batch alone, and the weights' gradients."""
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, layers, dtype=torch.float64, solver=solver, comm=grid, **options)
    directions = 2 if gru.bidirectional else 1
    series = torch.randn(T, B, INPUTS, dtype=torch.float64)
    weights = torch.randn(T, B, directions * H, dtype=torch.float64)
    initial = torch.randn(directions * layers, B, H, dtype=torch.float64)
    held, mine = sb.local_slice(T, grid, solver), slice(0, B) if grid is None else grid.local_batch(B)
    x, h0 = series[held, mine].requires_grad_(), initial[:, mine].requires_grad_()
    output, h_n = gru(x, h0, None if lengths is None else lengths[mine])
    loss = (output * weights[held, mine]).sum() + h_n.square().sum()
    of_x, of_h0, *of_weights = torch.autograd.grad(loss, [x, h0, *gru.parameters()])
    return [[output.detach(), of_x], [h_n.detach(), of_h0], of_weights]


def test_results_do_not_depend_on_the_grid(world: Any) -> None:
    """Outputs, h_n and every gradient of a converged solve and of one in sequence, against one process."""
    options: dict[str, object]
    for T, solver, layers in itertools.product((3, 30), (CONVERGED, sb.Serial()), (1, 2, 3)):
        for options in ({}, {"bidirectional": True, **({"dropout": 0.4} if layers > 1 else {})}):
            lengths = [T, 1, (T + 1) // 2, T - 1, 2, T, 1] if options else None
            slices, of_groups, of_weights = solve(None, sb.Serial(), T, layers, lengths, **options)
            for grid in grids(world):
                held, mine = sb.local_slice(T, grid, solver), grid.local_batch(B)
                truth = [
                    [each[held, mine] for each in slices],
                    [each[:, mine] for each in of_groups],
                    of_weights,
                ]
                found = solve(grid, solver, T, layers, lengths, **options)
                for one, other in zip(itertools.chain(*found), itertools.chain(*truth), strict=True):
                    assert one.shape == other.shape
                    where = f"{grid} {solver} {options} T={T} layers={layers}"
                    assert one.numel() == 0 or relative_error(one, other) < 1e-10, where
                first = [grid.world.broadcast(each.clone(), 0, "gradients") for each in found[2]]
                assert all(map(torch.equal, found[2], first))


def test_groups_without_sequences_take_part(world: Any) -> None:
    """A last batch may be smaller than the number of groups."""
    grid = sb.ProcessGrid(world, data=4)
    torch.manual_seed(0)
    gru, alone = (sb.GRU(INPUTS, H, 2, comm=comm) for comm in (grid, None))
    alone.load_state_dict(gru.state_dict())
    x = torch.randn(9, 2, INPUTS)
    for _ in range(2):
        gru(x[:, grid.local_batch(2)])[1].square().sum().backward()
        alone(x)[1].square().sum().backward()
    for one, other in zip(gru.parameters(), alone.parameters(), strict=True):
        assert relative_error(one.grad, other.grad) < 1e-5


def test_encoder_and_heads(world: Any) -> None:
    """Modules beside the GRU are summed over the ranks that saw parts."""
    T = 11

    def gradients(grid: sb.ProcessGrid | None) -> list[torch.Tensor]:
        torch.manual_seed(2)
        encoder, per_step, head = nn.Linear(2, INPUTS), nn.Linear(H, 1), nn.Linear(H, 2)
        gru = sb.GRU(INPUTS, H, 2, solver=sb.MGRIT(coarsening=2), comm=grid)
        modules = nn.ModuleList([encoder, per_step, head, gru]).double()
        mine = slice(0, B) if grid is None else grid.local_batch(B)
        x = torch.randn(T, B, 2, dtype=torch.float64)[sb.local_slice(T, grid, 2), mine]
        output, h_n = gru(encoder(x))
        (per_step(output).square().sum() / B + head(h_n[-1]).square().sum() / B).backward()
        for module in (encoder, per_step):
            sb.sum_gradients(module, grid)
        sb.sum_gradients(head, None if grid is None else grid.data)
        return [parameter.grad for parameter in modules.parameters()]

    truth = gradients(None)
    for grid in grids(world):
        for one, other in zip(gradients(grid), truth, strict=True):
            assert relative_error(one, other) < 1e-10


def test_errors_of_one_group_are_raised_on_all_ranks(world: Any) -> None:
    """None is left waiting, and all go on together."""
    grid = sb.ProcessGrid(world, data=2)
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, 2, solver=sb.MGRIT(coarsening=4), comm=grid)
    with pytest.raises(ValueError, match="data group 1: the length of sequence 0 is 9; expected 1 to 8"):
        gru(torch.zeros(4, 1, INPUTS), lengths=[9 if grid.data.rank else 8])
    loss = gru(torch.zeros(4, 2, INPUTS))[1].sum() * (torch.nan if grid.data.rank else 1.0)
    expected = "layer 1: the backward solve diverged" if grid.data.rank else "another data group"
    with pytest.raises(sb.SolverDivergedError, match=expected):
        loss.backward()
    with torch.no_grad():
        gru.weight_hh_l0 *= 100.0
    # Products that are infinite, of either sign: their sum is nan.
    with pytest.raises(sb.SolverDivergedError):
        gru(torch.zeros(4, 2, INPUTS), torch.full((2, 2, H), 3e38 if grid.data.rank else 0.0))
    gru(torch.zeros(4, 2, INPUTS))[1].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in gru.parameters())


def test_started_sums_may_be_given_up(world: Any) -> None:
    """A sum that nobody waits for does not end in memory that something else has by then."""
    communicator = sb.ProcessGrid(world).world
    for _ in range(20):
        communicator.start_all_reduce(torch.ones(100_000), "given up")
    pending = communicator.start_all_reduce(torch.full((3,), float(world.rank)), "wanted")
    assert communicator.all_reduce(torch.ones(2), "between").tolist() == [4.0, 4.0]
    assert pending.wait().tolist() == pending.wait().tolist() == [6.0, 6.0, 6.0]


def test_many_grids_need_no_new_communicators(world: Any) -> None:
    """MPI has room for a few thousand."""
    first = sb.ProcessGrid(world, data=2)
    for _ in range(1500):
        grid = sb.ProcessGrid(world, data=2)
    assert grid.sequence is first.sequence
    assert grid.data is first.data
