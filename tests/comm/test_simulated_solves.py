import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import relative_error

import seqbraid as sb
from seqbraid.comm import SingleProcess
from seqbraid.errors import CommunicationError


def still(ranks, **options):
    """A world whose ranks compute in no time, so that clocks hold communication alone."""
    return sb.SimulatedWorld(ranks, timer=lambda: 0.0, **options)


def results(comm, T, solver, lengths, bidirectional, dropout=0.0):
    torch.manual_seed(0)
    gru = sb.GRU(
        3, 4, 2, dtype=torch.float64, solver=solver, comm=comm, bidirectional=bidirectional, dropout=dropout
    )
    width = 8 if bidirectional else 4
    series = torch.randn(T, 2, 3, dtype=torch.float64)
    weights = torch.randn(T, 2, width, dtype=torch.float64)
    h0 = torch.randn(width // 2, 2, 4, dtype=torch.float64, requires_grad=True)
    held = sb.local_slice(T, comm, solver)
    x = series[held].requires_grad_()
    output, h_n = gru(x, h0, lengths)
    loss = (output * weights[held]).sum() + h_n.square().sum()
    gradients = torch.autograd.grad(loss, [x, h0, *gru.parameters()])
    return [output, gradients[0]], [h_n, *gradients[1:]]


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(),
    T=st.integers(1, 40),
    ranks=st.sampled_from([1, 2, 3, 4, 7, 16]),
    coarsening=st.integers(1, 9),
    levels=st.integers(1, 3),
    bidirectional=st.booleans(),
)
def test_any_ranks_give_the_results_of_one_process(data, T, ranks, coarsening, levels, bidirectional):
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=2, max_size=2))
    solver = sb.MGRIT(coarsening=coarsening, levels=levels, on_divergence="warn")
    arguments = (T, solver, lengths, bidirectional, 0.3)
    slices, same = results(SingleProcess(), *arguments)
    everyones = sb.SimulatedWorld(ranks).run(lambda comm: results(comm, *arguments))
    for number, whole in enumerate(slices):
        assert relative_error(torch.cat([rank[0][number] for rank in everyones]), whole) < 1e-11
    # h_n, and the gradients of h0 and of the parameters, are the same on every rank.
    for _, found in everyones:
        for one, other, first in zip(found, same, everyones[0][1], strict=True):
            assert torch.equal(one, first)
            assert relative_error(one, other) < 1e-11


def test_two_runs_give_the_same_bits():
    world = sb.SimulatedWorld(5)
    arguments = (37, sb.MGRIT(coarsening=4), None, False)
    first, second = (world.run(lambda comm: results(comm, *arguments)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[0] + one[1], other[0] + other[1], strict=True))


def test_a_solve_reports_its_communication_in_virtual_time():
    steps = 64

    def function(comm):
        torch.manual_seed(0)
        gru = sb.GRU(2, 3, solver=sb.MGRIT(coarsening=8), comm=comm)
        held = sb.local_slice(steps, comm, 8)
        gru(torch.zeros(held.stop - held.start, 1, 2))
        return gru.last_solve.forward[0]

    world = still(4, latency=1.0, bandwidth=1e30)
    reports = world.run(function)
    # Two rounds each for the coarse level's steps, for their sources and for the sum of the residuals, and
    # one message between neighbours for the C-relaxation.
    for report, waited in zip(reports, world.communication_seconds, strict=True):
        assert report.seconds == pytest.approx(report.communication_seconds)
        assert report.communication_seconds <= waited
    assert reports[-1].communication_seconds == pytest.approx(3 * 2 + 1)


def test_a_message_that_nobody_receives_is_an_error():
    def function(comm):
        if comm.rank == 0:
            comm.send(torch.zeros(1), 1, "a letter")

    with pytest.raises(CommunicationError, match="rank 1 never received what rank 0 sent in a letter"):
        sb.SimulatedWorld(2).run(function)


def test_slices_that_do_not_fit_are_refused_on_every_rank():
    def function(comm):
        torch.manual_seed(0)
        gru = sb.GRU(2, 3, solver=sb.MGRIT(coarsening=4), comm=comm)
        with pytest.raises(ValueError, match=r"ranks 0 and 1 meet at step 5.*local_slice\(15, comm, 4\)"):
            gru(torch.zeros(5, 1, 2))
        with pytest.raises(ValueError, match="batches of"):
            gru(torch.zeros(4, 1 + comm.rank, 2))
        with pytest.raises(ValueError, match="different lengths"):
            gru(torch.zeros(4, 1, 2), lengths=[1 + comm.rank])

    sb.SimulatedWorld(3).run(function)


def test_what_a_rank_sends_is_a_copy_and_objects_are_too():
    def function(comm):
        mine = torch.full((2,), float(comm.rank))
        if comm.rank == 0:
            comm.send(mine, 1, "value")
            mine += 100
        else:
            assert comm.receive(torch.empty(2), 0, "value").tolist() == [0.0, 0.0]
        everyones = comm.all_gather_objects([comm.rank], "lists")
        everyones[0].append("mine")
        comm.barrier("after")
        return everyones

    assert sb.SimulatedWorld(2).run(function) == [[[0, "mine"], [1]]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "ranks is 0"), ((2, -1.0), r"latency is -1\.0"), ((2, 0.0, 0.0), r"bandwidth is 0\.0")],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sb.SimulatedWorld(*arguments)
