"""Ranks as a grid, on simulated ranks; tests/mpi does the same for real."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seqbraid as sb
from seqbraid.comm import SingleProcess
from seqbraid.errors import CommunicationError


def message(*values):
    return torch.tensor(values, dtype=torch.float64)


def free_world(ranks, **options):
    """Return a world whose compute takes no time, so that clocks hold communication alone."""
    return sb.SimulatedWorld(ranks, timer=lambda: 0.0, **options)


@settings(deadline=None, max_examples=20)
@given(S=st.integers(1, 4), D=st.integers(1, 4), B=st.integers(0, 13), missing=st.sampled_from("SD_"))
def test_ranks_of_a_grid_lie_along_the_sequence_first(S, D, B, missing):
    def function(comm):
        grid = sb.ProcessGrid(comm, None if missing == "S" else S, None if missing == "D" else D)
        of_sequence = grid.sequence.all_gather_objects(comm.rank, "ranks along the sequence")
        of_data = grid.data.all_gather_objects(comm.rank, "ranks along the batch")
        sizes = (grid.world.size, grid.sequence.size, grid.data.size)
        return sizes, grid.sequence.rank, grid.data.rank, of_sequence, of_data, grid.local_batch(B)

    everyones = sb.SimulatedWorld(S * D).run(function)
    for rank, (sizes, place, group, of_sequence, of_data, _) in enumerate(everyones):
        assert sizes == (S * D, S, D)
        assert rank == group * S + place
        assert of_sequence == [group * S + other for other in range(S)]
        assert of_data == [other * S + place for other in range(D)]
    batch = list(range(B))
    shares = [batch[everyones[group * S][-1]] for group in range(D)]
    assert [number for share in shares for number in share] == batch
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(each[-1] == everyones[rank // S * S][-1] for rank, each in enumerate(everyones))


def test_one_process_is_a_grid_of_one_and_all_ranks_are_the_sequence_where_nothing_is_said():
    grid = sb.ProcessGrid()
    assert (grid.world.size, grid.sequence.size, grid.data.size) == (1, 1, 1)
    assert grid.local_batch(7) == slice(0, 7)
    assert copy.deepcopy(grid) is grid

    def function(comm):
        grid = sb.ProcessGrid(comm)
        assert grid.sequence is grid.world is comm
        other = sb.ProcessGrid(comm, data=3)
        assert other.data is other.world is comm
        return repr(grid), repr(other), grid.data.size, other.sequence.size

    assert sb.SimulatedWorld(3).run(function)[0] == (
        "ProcessGrid(sequence=3, data=1)",
        "ProcessGrid(sequence=1, data=3)",
        1,
        1,
    )


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((2, 3), "sequence=2 times data=3 makes 6 ranks, but the job has 4; start 6 ranks, or take numbers "),
        (
            (3, None),
            "sequence=3 does not divide the 4 ranks of the job; take a divisor of 4, or start a mult",
        ),
        (
            (None, 8),
            "data=8 does not divide the 4 ranks of the job; take a divisor of 4, or start a multiple",
        ),
        ((8, None), "sequence=8 does not divide the 4 ranks"),
        ((0, 4), "sequence is 0; expected a whole number of ranks"),
        ((None, True), "data is True; expected a whole number of ranks"),
    ],
)
def test_numbers_that_do_not_make_the_job_are_named(numbers, expected):
    with pytest.raises(ValueError, match=expected):
        sb.SimulatedWorld(4).run(lambda comm: sb.ProcessGrid(comm, *numbers))


def test_a_batch_of_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="B is -1"):
        sb.ProcessGrid().local_batch(-1)


def test_messages_within_a_group_stay_there_and_cost_among_its_ranks_only():
    def function(comm):
        grid = sb.ProcessGrid(comm, data=2)
        if grid.data.rank == 0:
            # The same two places talk in the group and in the world: neither gets the other's message.
            if comm.rank == 0:
                comm.send(message(1), 1, "world")
                grid.sequence.send(message(2), 1, "group")
            elif comm.rank == 1:
                assert grid.sequence.receive(message(0), 0, "group") == 2
                assert comm.receive(message(0), 0, "world") == 1
        start = comm.clock()
        total = grid.sequence.all_reduce(message(comm.rank), "sum in the group") if comm.rank > 3 else None
        assert grid.sequence.clock() == grid.data.clock() == comm.clock()
        return total, comm.clock() - start

    # Of eight ranks in two groups: a sum over four takes two rounds, and the other group does not notice.
    everyones = free_world(8, latency=1.0, bandwidth=1e30).run(function)
    assert everyones == [(None, 0.0)] * 4 + [(4 + 5 + 6 + 7, pytest.approx(2.0))] * 4


def test_a_split_is_the_same_at_every_call():
    def function(comm):
        groups = [sb.ProcessGrid(comm, data=2).sequence for _ in range(3)]
        assert groups[0] is groups[1] is groups[2]
        total = message(1)
        return [group.all_reduce(total, "sums").item() for group in groups]

    assert sb.SimulatedWorld(4).run(function) == [[2.0, 4.0, 8.0]] * 4
    assert isinstance(SingleProcess().split([0]), SingleProcess)


# Sums that are started


class Timer:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("work", "waited"), [(0.0, 2.5), (1.5, 1.0), (7.0, 0.0)])
def test_a_started_sum_goes_on_during_compute(work, waited):
    timer = Timer()

    def function(comm):
        timer.now += comm.rank  # the last start is at 3
        mine = message(comm.rank, 1)
        pending = comm.start_all_reduce(mine, "sum")
        timer.now += 3 - comm.rank + work
        before = comm.communication_seconds
        assert torch.equal(pending.wait(), message(6, 4))
        assert pending.wait() is mine
        return comm.communication_seconds - before

    world = sb.SimulatedWorld(4, latency=0.25, bandwidth=16.0, timer=timer)
    assert world.run(function) == [pytest.approx(waited)] * 4
    assert world.clocks == [pytest.approx(3 + max(2.5, work))] * 4


def test_started_sums_are_told_apart_by_their_order_and_other_calls_may_come_between():
    def function(comm):
        first = comm.start_all_reduce(message(comm.rank), "first")
        second = comm.start_all_reduce(message(1), "second")
        if comm.rank == 0:
            comm.send(message(5), 1, "token")
        elif comm.rank == 1:
            assert comm.receive(message(0), 0, "token") == 5
        between = comm.all_reduce(message(10), "between")
        return second.wait().item(), first.wait().item(), between.item()

    assert sb.SimulatedWorld(3).run(function) == [(3.0, 3.0, 30.0)] * 3
    assert SingleProcess().start_all_reduce(message(4), "alone").wait() == 4


def test_a_sum_that_nobody_waits_for_and_one_that_some_rank_does_not_start_are_errors():
    with pytest.raises(CommunicationError, match="rank 0 never waited for the sum it started in forgotten"):
        sb.SimulatedWorld(2).run(lambda comm: comm.start_all_reduce(message(0), "forgotten") and None)

    def function(comm):
        if comm.rank:
            comm.start_all_reduce(message(0), "lonely").wait()

    with pytest.raises(
        CommunicationError,
        match=r"rank 1 waits in lonely \(start_all_reduce of \(1,\) float64\) for rank 0",
    ):
        sb.SimulatedWorld(3).run(function)
    with pytest.raises(CommunicationError, match=r"rank 1 is in barrier .* rank 0 is in start_all_reduce"):
        sb.SimulatedWorld(2).run(
            lambda comm: comm.barrier("b") if comm.rank else comm.start_all_reduce(message(0), "s").wait()
        )
