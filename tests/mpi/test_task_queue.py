"""Four ranks, also in parts of three, two and one: each task is given out once, and queues end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seqbraid.comm import TaskQueue, as_communicator

Ranks = Any  # a communicator of mpi4py
Hold = Callable[[TaskQueue], bool]
PARTS = {
    "4": lambda rank: 0,
    "3 and 1": lambda rank: rank == 3,
    "2 and 2": lambda rank: rank // 2,
}

pytestmark = [pytest.mark.on_ranks(4), pytest.mark.parametrize("parts", PARTS)]


def split(world: Ranks, parts: str) -> Ranks:
    return world.Split(PARTS[parts](world.rank))


def never(queue: TaskQueue) -> bool:
    return False


def empty(ranks: Ranks, count: int, wanted: int, hold: Hold = never) -> list[list[int]]:
    """Take tasks until the end, and return what each rank took; every task must be there once.

    While `hold(queue)`, a rank that has a task neither reports it nor asks for more.
    """
    queue = TaskQueue(as_communicator(ranks), count)
    taken: list[int] = []
    unreported = 0
    while not queue.finished:
        holding = unreported > 0 and hold(queue)
        done = 0 if holding else unreported
        new = queue.exchange(0 if holding else wanted, done, 10 * done)
        assert len(new) <= wanted
        unreported += len(new) - done
        taken += new
    assert queue.exhausted
    assert not unreported
    if ranks.rank == 0:
        assert (queue.done, queue.units) == (count, 10 * count)
    shares: list[list[int]] = ranks.allgather(taken)
    assert all(share == sorted(share) for share in shares), shares
    assert sorted(task for share in shares for task in share) == list(range(count)), shares
    return shares


def test_every_task_is_handed_out_once(world: Ranks, parts: str) -> None:
    """None at all, fewer than ranks, many; one or several at a time."""
    ranks = split(world, parts)
    for count, wanted in ((0, 3), (1, 1), (2, 8), (3, 2), (7, 2), (100, 1), (101, 8)):
        empty(ranks, count, wanted)


def test_a_slow_rank_gets_less(world: Ranks, parts: str) -> None:
    """A rank that is at its first task until the others have taken the rest gets no second one."""
    ranks = split(world, parts)
    if ranks.size > 1:
        for slow in (0, ranks.size - 1):
            shares = empty(ranks, 40, 1, lambda queue, slow=slow: ranks.rank == slow and not queue.exhausted)
            assert len(shares[slow]) <= 1, shares


def test_the_end_waits_for_the_last_report(world: Ranks, parts: str) -> None:
    """Rank 0 takes the first task, and tells of it only when all others are done."""
    ranks = split(world, parts)
    count = 10 if ranks.size > 1 else 1
    shares = empty(ranks, count, 1, lambda queue: ranks.rank == 0 and queue.done < count - 1)
    assert shares[0] == [0], shares


def test_queues_follow_each_other_without_a_pause(world: Ranks, parts: str) -> None:
    """A quick rank begins the next one while rank 0 still answers for the last."""
    ranks = split(world, parts)
    for _ in range(6):
        queue = TaskQueue(as_communicator(ranks), 5)
        done = 0
        while not queue.finished:
            done = len(queue.exchange(2, done))
