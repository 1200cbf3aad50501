"""Simulated ranks that fail, wait for ever, or do not make the same calls."""

import signal
import threading
import time

import pytest
import torch

import seqbraid as sb
from seqbraid.errors import CommunicationError

INPUTS, H, B = 3, 5, 4
ONE_ITERATION = sb.MGRIT(coarsening=4)


def message(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_deadlock_names_all_ranks_and_their_calls():
    def stuck(comm):
        if comm.rank == 0:
            comm.receive(message(0), 1, "GRU layer 0: forward solve")
        if comm.rank > 1:
            comm.all_reduce(message(0), "sum of the gradients")

    with pytest.raises(CommunicationError) as caught:
        sb.SimulatedWorld(4).run(stuck)
    assert str(caught.value) == (
        "deadlock: rank 0 waits in GRU layer 0: forward solve for a message from rank 1; rank 1 has ended; "
        "rank 2 waits in sum of the gradients (all_reduce of (1,) float64) for rank 0, rank 1; "
        "rank 3 waits in sum of the gradients (all_reduce of (1,) float64) for rank 0, rank 1"
    )


def test_a_rank_that_skips_the_backward_pass_is_told_of():
    def train(comm):
        torch.manual_seed(0)
        gru = sb.GRU(INPUTS, H, solver=ONE_ITERATION, comm=comm)
        loss = gru(torch.zeros(8, B, INPUTS))[1].sum()
        if comm.rank != 1:
            loss.backward()

    with pytest.raises(
        CommunicationError,
        match=r"rank 0 waits in GRU layer 0: backward solve: coarsest level .* for rank 1; rank 1 has ended",
    ):
        sb.SimulatedWorld(3).run(train)


@pytest.mark.parametrize("failing", [0, 1, 4])
def test_an_error_keeps_its_type_and_names_its_rank(failing):
    ended, handled = [], []

    def work(comm):
        try:
            comm.barrier("before")
            if comm.rank == failing:
                try:
                    raise KeyError("inner")
                except KeyError as inner:
                    raise ValueError("the message") from inner
            comm.barrier("after")
        except Exception:
            handled.append(comm.rank)
            raise
        finally:
            ended.append(comm.rank)

    world = sb.SimulatedWorld(5)
    with pytest.raises(ValueError, match="the message") as caught:
        world.run(work)
    assert f"raised on rank {failing} of 5" in str(caught.value.__cause__)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)
    assert sorted(ended) == list(range(5))
    assert handled == [failing]  # the other ranks' handlers are not for its error
    assert world.run(lambda comm: comm.rank) == list(range(5))


def test_an_error_during_backward_ends_ranks_within_theirs():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise ZeroDivisionError("in backward")

    def train(comm):
        torch.manual_seed(0)
        gru = sb.GRU(INPUTS, H, solver=ONE_ITERATION, comm=comm)
        h_n = gru(torch.zeros(8, B, INPUTS))[1]
        (Fails.apply(h_n) if comm.rank == 2 else h_n).sum().backward()

    with pytest.raises(ZeroDivisionError, match="in backward"):
        sb.SimulatedWorld(3).run(train)


def test_ranks_that_have_not_begun_never_begin():
    begun = []

    def work(comm):
        begun.append(comm.rank)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        sb.SimulatedWorld(3).run(work)
    assert begun == [0]


@pytest.fixture
def interrupts():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_of_the_caller_stops_a_rank_that_runs():
    running = threading.Event()

    def work(comm):
        if comm.rank == 0:
            running.set()
            end = time.monotonic() + 60
            while time.monotonic() < end:
                comm.send(message(0), 1, "endless")

    def interrupt():
        running.wait(10)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        sb.SimulatedWorld(2).run(work)
    interrupter.join()


def mismatched_kind(comm):
    return comm.all_reduce(message(0), "sum") if comm.rank == 0 else comm.broadcast(message(0), 0, "choice")


def mismatched_shape(comm):
    return comm.all_reduce(torch.zeros(2 + comm.rank), "sum")


def mismatched_dtype(comm):
    return comm.all_reduce(torch.zeros(1, dtype=[torch.float32, torch.int64][comm.rank]), "sum")


def mismatched_root(comm):
    return comm.broadcast(message(0), comm.rank, "choice")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (
            mismatched_kind,
            r"rank 1 is in broadcast from rank 0 of \(1,\) float64 \(choice\), but rank 0 is in "
            r"all_reduce of \(1,\) float64 \(sum\)",
        ),
        (mismatched_shape, r"all_reduce of \(3,\) float32 \(sum\), but rank 0 is in all_reduce of \(2,\)"),
        (
            mismatched_dtype,
            r"all_reduce of \(1,\) int64 \(sum\), but rank 0 is in all_reduce of \(1,\) float32",
        ),
        (mismatched_root, r"broadcast from rank 1 .*, but rank 0 is in broadcast from rank 0"),
    ],
)
def test_collectives_that_do_not_match_name_both_calls(function, expected):
    with pytest.raises(CommunicationError, match=expected):
        sb.SimulatedWorld(2).run(function)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, dtype=torch.float64)])
def test_a_message_of_another_form_is_refused(wrong):
    def talk(comm):
        if comm.rank == 0:
            comm.send(torch.zeros(2), 1, "the sent one")
        else:
            comm.receive(wrong, 0, "the expected one")

    with pytest.raises(
        CommunicationError, match=r"rank 1 expects .* the expected one, .*\(2,\) float32 in the sent"
    ):
        sb.SimulatedWorld(2).run(talk)


def test_there_is_no_rank_beyond_the_last():
    for peer in (-1, 2):
        with pytest.raises(ValueError, match=f"lost: there is no rank {peer}; expected 0 to 1"):
            sb.SimulatedWorld(2).run(lambda comm, peer=peer: comm.send(message(0), peer, "lost"))


def test_a_communicator_is_of_no_use_after_its_run():
    comm = sb.SimulatedWorld(2).run(lambda comm: comm)[0]
    with pytest.raises(CommunicationError, match="too late: simulated rank 0 was used after its run"):
        comm.barrier("too late")


def test_worlds_can_be_nested():
    def outer(comm):
        inner = sb.SimulatedWorld(3).run(lambda c: c.all_reduce(message(c.rank + comm.rank), "inner").item())
        return comm.all_reduce(message(inner[0]), "outer").item()

    assert sb.SimulatedWorld(2).run(outer) == [9.0, 9.0]
