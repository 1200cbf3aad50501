"""Sequence ranks x data ranks give the results of one process, on simulated ranks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.rnn.dropout import drop

INPUTS, H = 3, 4
CONVERGED = sb.MGRIT(coarsening=4, tolerance=1e-13, max_iterations=60)
GRIDS = [(4, 1), (2, 2), (1, 4)]


def solve(comm, solver, T, B, layers=2, lengths=None, bidirectional=False, dropout=0.0):
    """Return what one rank has of a global batch, by name: cut in time and batch, cut in batch, not cut."""
    torch.manual_seed(0)
    gru = sb.GRU(
        INPUTS,
        H,
        layers,
        dtype=torch.float64,
        solver=solver,
        comm=comm,
        dropout=dropout if layers > 1 else 0.0,
        bidirectional=bidirectional,
    )
    states = (2 if bidirectional else 1) * layers
    series = torch.randn(T, B, INPUTS, dtype=torch.float64)
    weights = torch.randn(T, B, H * (2 if bidirectional else 1), dtype=torch.float64)
    initial = torch.randn(states, B, H, dtype=torch.float64)
    held = sb.local_slice(T, comm, solver)
    mine = comm.local_batch(B) if isinstance(comm, sb.ProcessGrid) else slice(0, B)
    x, h0 = series[held, mine].requires_grad_(), initial[:, mine].requires_grad_()
    output, h_n = gru(x, h0, None if lengths is None else lengths[mine])
    loss = (output * weights[held, mine]).sum() + h_n.square().sum()
    of_x, of_h0, *of_weights = torch.autograd.grad(loss, [x, h0, *gru.parameters()])
    return (held, mine), [output.detach(), of_x], [h_n.detach(), of_h0], of_weights


def check(S, D, solver, T, B, truth, **options):
    def on_rank(comm):
        return solve(sb.ProcessGrid(comm, S, D), solver, T, B, **options)

    _, slices, of_groups, of_weights = truth
    everyones = sb.SimulatedWorld(S * D).run(on_rank)
    for (held, mine), *found in everyones:
        expected = [each[held, mine] for each in slices], [each[:, mine] for each in of_groups], of_weights
        for ours, theirs in zip(found, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert one.shape == other.shape
                assert one.numel() == 0 or relative_error(one, other) < 1e-10
        # To the bit, so that any optimizer keeps the ranks in step.
        assert all(map(torch.equal, found[2], everyones[0][3]))


@settings(deadline=None, max_examples=15)
@given(
    data=st.data(),
    T=st.integers(1, 33),
    B=st.sampled_from([7, 2, 5]),
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
    solver=st.sampled_from([CONVERGED, sb.Serial()]),
)
def test_any_grid_gives_the_gradients_of_one_serial_process(
    data, T, B, layers, bidirectional, dropout, solver
):
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    options = {
        "layers": layers,
        "lengths": lengths,
        "bidirectional": bidirectional,
        "dropout": dropout,
    }
    truth = solve(None, sb.Serial(), T, B, **options)
    for S, D in GRIDS:
        check(S, D, solver, T, B, truth, **options)


@pytest.mark.parametrize("solver", [sb.MGRIT(coarsening=4), sb.Serial()], ids=["MGRIT", "Serial"])
def test_one_iteration_depends_neither_on_sequence_nor_on_data_ranks(solver):
    truth = solve(None, solver, 30, 5, dropout=0.3)
    for S, D in [*GRIDS, (3, 2), (2, 7)]:
        check(S, D, solver, 30, 5, truth, dropout=0.3)


def test_what_is_dropped_on_any_grid_is_not_what_another_place_in_the_batch_would_drop():
    # Else the tests above would say nothing of where a group's sequences begin in the batch.
    x = torch.ones(4, 3, 50)
    whole = drop(torch.ones(4, 8, 50), 0.5, (1, 2), 3)
    assert torch.equal(drop(x, 0.5, (1, 2), 3, 2, 8), whole[:, 2:5])
    assert not torch.equal(drop(x, 0.5, (1, 2), 3, 1, 8), whole[:, 2:5])
    assert not torch.equal(drop(x, 0.5, (1, 2), 3), whole[:, 2:5])


# Modules beside the GRU


def test_encoders_and_heads_are_summed_over_the_ranks_that_saw_parts():
    T, B, classes = 11, 5, 3

    def gradients(comm):
        grid = comm if comm is None else sb.ProcessGrid(comm, 2, 2)
        torch.manual_seed(2)
        encoder, per_step, head = nn.Linear(2, INPUTS), nn.Linear(H, 1), nn.Linear(H, classes)
        gru = sb.GRU(INPUTS, H, 2, solver=sb.MGRIT(coarsening=2), comm=grid)
        modules = nn.ModuleList([encoder, per_step, head, gru]).double()
        mine = slice(0, B) if grid is None else grid.local_batch(B)
        x = torch.randn(T, B, 2, dtype=torch.float64)[sb.local_slice(T, grid, 2), mine]
        labels = torch.arange(B)[mine] % classes
        output, h_n = gru(encoder(x))
        loss = nn.functional.cross_entropy(head(h_n[-1]), labels, reduction="sum") / B
        (loss + per_step(output).square().sum() / B).backward()
        for module in (encoder, per_step):
            sb.sum_gradients(module, grid)
        if grid is not None:
            sb.sum_gradients(head, grid.data)
        return [parameter.grad for parameter in modules.parameters()]

    truth = gradients(None)
    for found in sb.SimulatedWorld(4).run(gradients):
        for one, other in zip(found, truth, strict=True):
            assert relative_error(one, other) < 1e-10


# Calls that do not fit


def refused(function, ranks, S, D):
    """Return the messages of the ValueErrors of all ranks, which then are still in step."""

    def on_rank(comm):
        grid = sb.ProcessGrid(comm, S, D)
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            function(grid)
        grid.world.barrier("after")
        return str(caught.value)

    return sb.SimulatedWorld(ranks).run(on_rank)


def module(grid, solver=None, **options):
    torch.manual_seed(0)
    return sb.GRU(INPUTS, H, solver=solver, comm=grid, **options)


def test_what_does_not_fit_in_one_group_is_told_on_all_ranks():
    def other_batch(grid):
        module(grid)(torch.zeros(4, 2 + (grid.world.rank == 3), INPUTS))

    def other_lengths(grid):
        module(grid)(torch.zeros(4, 2, INPUTS), lengths=[1, 1 + (grid.world.rank == 3)])

    def other_h0(grid):
        module(grid)(torch.zeros(4, 2, INPUTS), torch.full((1, 2, H), float(grid.world.rank == 3)))

    def long_lengths(grid):
        module(grid)(torch.zeros(4, 2, INPUTS), lengths=[1, 9 if grid.data.rank else 2])

    def few_lengths(grid):
        module(grid)(torch.zeros(4, 2, INPUTS), lengths=[1] * (2 - grid.data.rank))

    def cut_anywhere(grid):
        module(grid, sb.MGRIT(coarsening=4))(torch.zeros(4 + grid.data.rank, 2, INPUTS))

    def no_sequences(grid):
        module(grid)(torch.zeros(4, 0, INPUTS))

    def other_weights(grid):
        torch.manual_seed(grid.data.rank)
        sb.GRU(INPUTS, H, comm=grid)(torch.zeros(4, 2, INPUTS))

    def spoilt(grid):
        x = torch.zeros(4, 2, INPUTS)
        x[0, 0, 0] = torch.inf if grid.world.rank == 3 else 0.0
        module(grid)(x, lengths=None if grid.data.rank else [8, 3])

    for function, expected in (
        (other_batch, "data group 1: the ranks were given batches of [2, 3] sequences; expected the same"),
        (other_lengths, "data group 1: the ranks were given different lengths"),
        (other_h0, "data group 1: there is another h0 on rank 3 than on rank 2"),
        (long_lengths, "data group 1: the length of sequence 1 is 9; expected 1 to 8 steps"),
        (few_lengths, "data group 1: 1 lengths were given for 2 sequences"),
        (cut_anywhere, "data group 1: the slices of ranks 0 and 1 meet at step 5, which is no multiple of 4"),
        (no_sequences, "there is no sequence on any rank"),
        (other_weights, "there are other weights on rank 2 than on rank 0"),
        (spoilt, "x holds 1 values on rank 3 that are nan or inf"),
    ):
        messages = refused(function, 4, 2, 2)
        assert all(message.startswith(expected) for message in messages), messages


def test_groups_may_have_other_h0_lengths_and_padding():
    def on_rank(comm):
        grid = sb.ProcessGrid(comm, 2, 2)
        x = torch.zeros(4, 1 + grid.data.rank, INPUTS)
        h0 = torch.full((1, 1 + grid.data.rank, H), float(grid.data.rank))
        lengths = None
        if grid.data.rank:
            lengths = [8, 3]
            x[(4 if grid.sequence.rank == 0 else 0) :, 1] = torch.nan
        return module(grid)(x, h0, lengths)[0].isfinite().all()

    assert all(sb.SimulatedWorld(4).run(on_rank))


@pytest.mark.parametrize("backward", [False, True])
def test_divergence_in_one_group_is_raised_on_all_ranks(backward):
    # The second group's loss is nan, or its states too large: so are then the residuals.
    def train(comm):
        grid = sb.ProcessGrid(comm, 2, 2)
        gru = module(grid, sb.MGRIT(coarsening=4), num_layers=2)
        x = torch.zeros(8, 2, INPUTS, requires_grad=True)
        h0 = torch.zeros(2, 2, H)
        if grid.data.rank and not backward:
            h0 += 3e38

        def step():
            loss = gru(x, h0)[1].sum() * (torch.nan if grid.data.rank else 1.0)
            loss.backward()

        with pytest.raises(sb.SolverDivergedError) as caught:
            step()
        assert all(parameter.grad is None for parameter in gru.parameters())
        # And all go on together.
        gru(x)[1].sum().backward()
        return str(caught.value)

    messages = sb.SimulatedWorld(4).run(train)
    direction = "backward" if backward else "forward"
    assert all("another data group" in message for message in messages[:2])
    assert all(f"the {direction} solve diverged" in message for message in messages[2:])
