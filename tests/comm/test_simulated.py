import math
import time

import pytest
import torch
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.comm import SingleProcess

INPUTS, H, B, LAYERS = 3, 5, 4, 2
ONE_ITERATION = sb.MGRIT(coarsening=4)
OTHERS = [
    sb.Serial(),
    sb.MGRIT(coarsening=3, relaxation="F", coarse="implicit", coarse_input="point", initial_guess="zero"),
    sb.MGRIT(coarsening=5, tolerance=1e-9),
]


class FakeTimer:
    """Compute costs what a test says: the clocks can be foretold to the last digit."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def compute(self, seconds):
        self.now += seconds


def free_world(ranks, **options):
    """Return a world whose compute takes no time, so that clocks hold communication alone."""
    return sb.SimulatedWorld(ranks, timer=FakeTimer(), **options)


def message(*values):
    return torch.tensor(values, dtype=torch.float64)


# The same results as one process


def solve(comm, solver, cell, T, lengths):
    """Return this rank's output and gradient of x, and h_n and the gradients of h0 and all parameters."""
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, LAYERS, dtype=torch.float64, cell=cell, gamma=0.8, solver=solver, comm=comm)
    series = torch.randn(T, B, INPUTS, dtype=torch.float64)
    weights = torch.randn(T, B, H, dtype=torch.float64)
    h0 = torch.randn(LAYERS, B, H, dtype=torch.float64, requires_grad=True)
    held = sb.local_slice(T, comm, solver.coarsening if isinstance(solver, sb.MGRIT) else 1)
    x = series[held].requires_grad_()
    output, h_n = gru(x, h0, lengths)
    loss = (output * weights[held]).sum() + h_n.square().sum()
    gradients = torch.autograd.grad(loss, [x, h0, *gru.parameters()])
    return [output.detach(), gradients[0], h_n.detach(), *gradients[1:]]


def check_against_one_process(ranks, solver, cell, T, lengths):
    truth = solve(SingleProcess(), solver, cell, T, lengths)
    found = sb.SimulatedWorld(ranks).run(lambda comm: solve(comm, solver, cell, T, lengths))
    # What each rank has of output and x's gradient makes up the whole; all else is the same on every rank.
    for place in (0, 1):
        assert relative_error(torch.cat([each[place] for each in found]), truth[place]) < 1e-12
    for each in found:
        for place in range(2, len(truth)):
            assert relative_error(each[place], truth[place]) < 1e-12
            assert torch.equal(each[place], found[0][place])


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("cell", ["classic", "implicit"])
def test_one_iteration_does_not_depend_on_the_ranks(ranks, cell):
    for T in (1, 3, 13, 37, 67):
        for lengths in (None, [T, 1, (T + 1) // 2, max(1, T - 1)]):
            check_against_one_process(ranks, ONE_ITERATION, cell, T, lengths)


@pytest.mark.parametrize("ranks", [2, 7])
@pytest.mark.parametrize("solver", OTHERS, ids=["serial", "F", "tolerance"])
def test_other_solvers_do_not_depend_on_the_ranks(ranks, solver):
    for T in (1, 37):
        check_against_one_process(ranks, solver, "classic", T, [T, 1, (T + 1) // 2, T])


def test_one_iteration_is_not_the_exact_solution():
    # Else the tests above would say nothing of what one iteration sends between ranks.
    series = torch.randn(67, B, INPUTS, dtype=torch.float64)
    gru = sb.GRU(INPUTS, H, dtype=torch.float64, solver=ONE_ITERATION)
    exact = sb.GRU(INPUTS, H, dtype=torch.float64)
    exact.load_state_dict(gru.state_dict())
    assert relative_error(gru(series)[0], exact(series)[0]) > 1e-9


def test_encoder_upstream_has_its_gradients_summed():
    def gradients(comm):
        torch.manual_seed(2)
        encoder, gru = nn.Linear(2, INPUTS), sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=2), comm=comm)
        x = torch.randn(11, B, 2)[sb.local_slice(11, comm, 2)]
        gru(encoder(x))[0].square().sum().backward()
        sb.sum_gradients(encoder, comm)
        return [parameter.grad for parameter in encoder.parameters()]

    truth = gradients(None)
    for found in sb.SimulatedWorld(3).run(gradients):
        for one, other in zip(found, truth, strict=True):
            assert relative_error(one, other) < 1e-5


def test_lowest_rank_that_can_go_on_is_next():
    trace = []

    def pass_on(comm):
        trace.append(f"{comm.rank} begins")
        if comm.rank < 2:
            comm.receive(message(0), comm.rank + 1, "token")
        if comm.rank > 0:
            comm.send(message(comm.rank), comm.rank - 1, "token")
        trace.append(f"{comm.rank} ends")

    for _ in range(3):
        trace.clear()
        sb.SimulatedWorld(3).run(pass_on)
        assert trace == ["0 begins", "1 begins", "2 begins", "2 ends", "1 ends", "0 ends"]


# Communication


def test_results_come_in_rank_order_and_each_call_does_what_it_says():
    def talk(comm):
        values = message(comm.rank, 1.0)
        comm.send(values, (comm.rank + 1) % comm.size, "ring")
        values.fill_(-1)  # what was sent is a copy
        received = comm.receive(torch.empty(2, dtype=torch.float64), (comm.rank - 1) % comm.size, "ring")
        total = comm.all_reduce(message(comm.rank), "sum")
        chosen = comm.broadcast(message(10 * comm.rank), 2, "choice")
        names = comm.all_gather_objects({"rank": [comm.rank]}, "names")
        names[0]["rank"].append("mine")  # nor does any rank see another's object
        comm.barrier("end")
        return (
            comm.rank,
            comm.size,
            received.tolist(),
            total.item(),
            chosen.item(),
            names[0]["rank"],
            names[3],
        )

    assert sb.SimulatedWorld(4).run(talk) == [
        (rank, 4, [(rank - 1) % 4, 1.0], 6.0, 20.0, [0, "mine"], {"rank": [3]}) for rank in range(4)
    ]


def test_messages_keep_their_order_and_fill_what_is_not_contiguous():
    def talk(comm):
        if comm.rank == 0:
            for number in range(5):
                comm.send(torch.full((2, 3), number).t(), 1, "several")
            return None
        matrix = torch.zeros(2, 15, dtype=torch.int64)
        for number in range(5):
            comm.receive(matrix[:, 3 * number : 3 * number + 3].t(), 0, "several")
        return matrix[1].tolist()

    assert sb.SimulatedWorld(2).run(talk)[1] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3


def test_sums_are_added_in_rank_order():
    values = [1.0, 1e16, -1e16, 3.0]  # another order gives another sum
    totals = sb.SimulatedWorld(4).run(lambda comm: comm.all_reduce(message(values[comm.rank]), "sum").item())
    assert totals == [((values[0] + values[1]) + values[2]) + values[3]] * 4


def test_ranks_take_over_grad_mode_and_threads():
    def settings(comm):
        before = torch.is_grad_enabled(), torch.get_num_threads()
        comm.barrier("others have their turn")
        return before == (torch.is_grad_enabled(), torch.get_num_threads()) and before

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with torch.no_grad():
            assert sb.SimulatedWorld(2).run(settings) == [(False, 3)] * 2
        assert sb.SimulatedWorld(2).run(settings) == [(True, 3)] * 2
    finally:
        torch.set_num_threads(threads)


# Virtual clocks


@pytest.mark.parametrize("ranks", [2, 5, 9])
def test_a_chain_of_messages_costs_a_latency_a_link(ranks):
    def chain(comm):
        token = message(0.0)
        if comm.rank > 0:
            comm.receive(token, comm.rank - 1, "chain")
        if comm.rank < comm.size - 1:
            comm.send(token + 1, comm.rank + 1, "chain")
        return token.item()

    world = sb.SimulatedWorld(ranks, latency=1.0, bandwidth=math.inf)
    start = time.perf_counter()
    assert world.run(chain) == list(range(ranks))
    real = time.perf_counter() - start
    assert real < 0.9
    for rank, clock in enumerate(world.clocks):
        assert rank <= clock <= rank + real
    assert world.communication_seconds[0] == 0.0


def test_clocks_follow_compute_latency_and_bandwidth():
    timer = FakeTimer()

    def talk(comm):
        if comm.rank == 0:
            timer.compute(5.0)
            comm.send(torch.zeros(100, dtype=torch.float64), 1, "late")
            timer.compute(1.0)
        elif comm.rank == 1:
            timer.compute(2.0)
            comm.receive(torch.zeros(100, dtype=torch.float64), 0, "late")
            assert comm.clock() == 5.0 + 0.25 + 8.0
            timer.compute(3.0)
            assert comm.clock() == 5.0 + 0.25 + 8.0 + 3.0
            comm.send(message(1), 2, "early")
        else:
            timer.compute(50.0)
            comm.receive(message(0), 1, "early")

    world = sb.SimulatedWorld(3, latency=0.25, bandwidth=100.0, timer=timer)
    world.run(talk)
    assert world.compute_seconds == [6.0, 5.0, 50.0]
    # Rank 1 waits from 2 to 13.25; what rank 2 asks for has come long before.
    assert world.communication_seconds == [0.0, 11.25, 0.0]
    assert world.clocks == [6.0, 16.25, 50.0]


@pytest.mark.parametrize(("ranks", "rounds"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6)])
def test_collectives_cost_a_message_a_round_from_the_last_rank_on(ranks, rounds):
    timer = FakeTimer()
    numbers = torch.zeros(10, dtype=torch.float64)
    calls = {
        "all_reduce": (lambda comm: comm.all_reduce(numbers.clone(), "all"), 80),
        "broadcast": (lambda comm: comm.broadcast(numbers.clone(), ranks - 1, "all"), 80),
        "barrier": (lambda comm: comm.barrier("all"), 0),
    }
    for call, nbytes in calls.values():

        def work(comm, call=call):
            timer.compute(float(ranks - comm.rank))  # the first to call is the last in virtual time
            call(comm)

        world = sb.SimulatedWorld(ranks, latency=0.5, bandwidth=160.0, timer=timer)
        world.run(work)
        end = ranks + rounds * (0.5 + nbytes / 160.0)
        assert world.clocks == [end] * ranks
        assert world.compute_seconds == [float(ranks - rank) for rank in range(ranks)]
        assert world.communication_seconds == [end - (ranks - rank) for rank in range(ranks)]


def test_compute_is_measured_while_a_rank_runs_alone():
    def work(comm):
        comm.barrier("start")
        if comm.rank == 1:
            stop = time.perf_counter() + 0.05
            while time.perf_counter() < stop:
                pass
        comm.barrier("end")

    world = sb.SimulatedWorld(3, latency=1.0)
    world.run(work)
    idle, busy, also_idle = world.compute_seconds
    assert busy >= 0.05
    assert max(idle, also_idle) < 0.04
    assert min(world.clocks) == pytest.approx(max(world.clocks), abs=0.02)
    assert world.clocks[0] >= 4.05


# Failures
