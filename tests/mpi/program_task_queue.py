"""Run by four ranks, also in parts of three, two and one: each task is given out once, and queues end."""

from __future__ import annotations

from collections.abc import Callable

from mpi4py import MPI

from seqbraid.comm import TaskQueue, as_communicator

WORLD = MPI.COMM_WORLD
Ranks = MPI.Comm
Hold = Callable[[TaskQueue], bool]


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


def check_every_task_is_handed_out_once(ranks: Ranks) -> None:
    """None at all, fewer than ranks, many; one or several at a time."""
    for count, wanted in ((0, 3), (1, 1), (2, 8), (3, 2), (7, 2), (100, 1), (101, 8)):
        empty(ranks, count, wanted)


def check_a_slow_rank_gets_less(ranks: Ranks) -> None:
    """A rank that is at its first task until the others have taken the rest gets no second one."""
    if ranks.size > 1:
        for slow in (0, ranks.size - 1):
            shares = empty(ranks, 40, 1, lambda queue, slow=slow: ranks.rank == slow and not queue.exhausted)
            assert len(shares[slow]) <= 1, shares


def check_the_end_waits_for_the_last_report(ranks: Ranks) -> None:
    """Rank 0 takes the first task, and tells of it only when all others are done."""
    count = 10 if ranks.size > 1 else 1
    shares = empty(ranks, count, 1, lambda queue: ranks.rank == 0 and queue.done < count - 1)
    assert shares[0] == [0], shares


def check_queues_follow_each_other_without_a_pause(ranks: Ranks) -> None:
    """A quick rank begins the next one while rank 0 still answers for the last."""
    for _ in range(6):
        queue = TaskQueue(as_communicator(ranks), 5)
        done = 0
        while not queue.finished:
            done = len(queue.exchange(2, done))


def main() -> None:
    """Run every check; a failure on one rank ends the whole job."""
    assert WORLD.size == 4
    for ranks in (WORLD, WORLD.Split(WORLD.rank == 3), WORLD.Split(WORLD.rank // 2)):
        for name, check in sorted(globals().items()):
            if name.startswith("check_"):
                check(ranks)
    WORLD.Barrier()
    if WORLD.rank == 0:
        print("all checks passed")


if __name__ == "__main__":
    main()
