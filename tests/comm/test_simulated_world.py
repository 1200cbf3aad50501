import copy
import threading

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


def chain(comm):
    token = torch.zeros(250)  # 1000 bytes
    if comm.rank > 0:
        comm.receive(token, comm.rank - 1, "the chain")
    token += 1
    if comm.rank < comm.size - 1:
        comm.send(token, comm.rank + 1, "the chain")
    return float(token[0])


def test_a_chain_of_messages_takes_a_latency_and_the_bytes_for_each():
    world = still(6, latency=1.0, bandwidth=2000.0)
    assert world.run(chain) == [1, 2, 3, 4, 5, 6]
    assert world.clocks == pytest.approx([0.0, 1.5, 3.0, 4.5, 6.0, 7.5])
    assert world.communication_seconds == pytest.approx(world.clocks)


@pytest.mark.parametrize(("ranks", "rounds"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4)])
def test_a_sum_takes_as_many_rounds_as_recursive_doubling(ranks, rounds):
    world = still(ranks, latency=1.0, bandwidth=8.0)

    def function(comm):
        return float(comm.all_reduce(torch.tensor([float(comm.rank)], dtype=torch.float64), "sum"))

    assert world.run(function) == [sum(range(ranks))] * ranks
    assert world.clocks == pytest.approx([2.0 * rounds] * ranks)


def test_compute_counts_on_the_rank_that_does_it_and_delays_those_that_wait():
    now = 0.0

    def work(comm):
        nonlocal now
        now += 10.0 * (comm.rank + 1)  # one rank runs at a time, so the timer is its own
        comm.barrier("meeting")
        return comm.clock()

    world = sb.SimulatedWorld(3, latency=0.5, timer=lambda: now)
    assert world.run(work) == pytest.approx([31.0] * 3)
    assert world.compute_seconds == pytest.approx([10.0, 20.0, 30.0])
    assert world.communication_seconds == pytest.approx([21.0, 11.0, 1.0])


def test_a_solve_reports_its_communication_in_virtual_time():
    steps = 64

    def function(comm):
        gru = sb.GRU(2, 3, solver=sb.MGRIT(coarsening=8), comm=comm)
        held = sb.local_slice(steps, comm, 8)
        gru(torch.zeros(held.stop - held.start, 1, 2))
        return gru.last_solve.forward[0]

    world = still(4, latency=1.0)
    reports = world.run(function)
    # The sequences pass through the ranks like a pipeline, so that the last waits 3 latencies for the first of
    # them and nothing more for the others; then the sum of the residuals takes two rounds.
    for report, waited in zip(reports, world.communication_seconds, strict=True):
        assert report.seconds == pytest.approx(report.communication_seconds)
        assert report.communication_seconds <= waited
    assert reports[-1].communication_seconds == pytest.approx(3 + 2)


def test_deadlock_says_who_waits_for_whom():
    def function(comm):
        if comm.rank < 2:
            comm.receive(torch.zeros(1), 1 - comm.rank, f"call {comm.rank}")

    with pytest.raises(CommunicationError, match="deadlock") as caught:
        sb.SimulatedWorld(3).run(function)
    message = str(caught.value)
    assert "rank 0 waits" in message
    assert "call 0" in message
    assert "rank 1" in message
    assert "rank 2 has ended" in message


def test_a_rank_that_stays_away_from_a_collective_call_is_named():
    def function(comm):
        if comm.rank != 1:
            comm.barrier("the meeting")

    with pytest.raises(CommunicationError, match=r"the meeting.*for rank 1"):
        sb.SimulatedWorld(3).run(function)


def test_calls_that_do_not_match_are_named():
    def function(comm):
        if comm.rank == 0:
            comm.barrier("one thing")
        else:
            comm.all_reduce(torch.zeros(2), "another")

    with pytest.raises(CommunicationError, match=r"all_reduce of \(2,\).*another.*barrier.*one thing"):
        sb.SimulatedWorld(2).run(function)


def test_a_message_that_nobody_receives_is_an_error():
    def function(comm):
        if comm.rank == 0:
            comm.send(torch.zeros(1), 1, "a letter")

    with pytest.raises(CommunicationError, match="rank 1 never received what rank 0 sent in a letter"):
        sb.SimulatedWorld(2).run(function)


def test_an_exception_ends_all_ranks_keeps_its_type_and_leaves_no_thread():
    before = threading.active_count()
    world = sb.SimulatedWorld(4)

    def function(comm):
        if comm.rank == 2:
            raise ZeroDivisionError("on purpose")
        comm.barrier("for ever")

    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        world.run(function)
    assert "rank 2 of 4" in str(caught.value.__cause__)
    assert threading.active_count() == before
    assert world.run(lambda comm: comm.rank) == [0, 1, 2, 3]
    assert threading.active_count() == before


def test_slices_that_do_not_fit_are_refused_on_every_rank():
    def function(comm):
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


def test_grad_mode_is_the_callers_and_modules_can_be_copied():
    def function(comm):
        gru = sb.GRU(2, 3, comm=comm)
        assert copy.deepcopy(gru).communicator is comm
        return gru(torch.zeros(2, 1, 2))[0].requires_grad

    with torch.no_grad():
        assert sb.SimulatedWorld(2).run(function) == [False, False]
    assert sb.SimulatedWorld(2).run(function) == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "ranks is 0"), ((2, -1.0), r"latency is -1\.0"), ((2, 0.0, 0.0), r"bandwidth is 0\.0")],
)
def test_arguments_that_cannot_be_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sb.SimulatedWorld(*arguments)
