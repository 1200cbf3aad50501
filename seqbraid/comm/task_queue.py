"""A queue of tasks from which each rank takes the next when it is free."""

from __future__ import annotations

import time

import torch

from seqbraid.comm.base import Communicator
from seqbraid.comm.mpi import MPICommunicator
from seqbraid.errors import CommunicationError

__all__ = ["TaskQueue"]

_AT_ONCE = 8
_HEARTBEAT_S = 0.25
_MORE, _EXHAUSTED, _FINISHED = 0, 1, 2


class TaskQueue:
    """Hands the tasks 0 ... count - 1 out in order; every rank calls `exchange` until `finished`.

    Rank 0 keeps the list, and works like the others: it answers whenever it calls `exchange` itself. Making a
    queue is collective, no other call waits. `exhausted`: none is left to hand out. `finished`: every task of
    every rank is done. `done` and `units` (say, clips and frames) are what all ranks have reported, on rank 0
    alone.

    A rank that is not heard of for the time limit of the communicator raises `CommunicationError` on rank 0,
    and so does rank 0 on the others. `communicator`: one process, or MPI.
    """

    def __init__(self, communicator: Communicator, count: int) -> None:
        if communicator.size > 1 and not isinstance(communicator, MPICommunicator):
            raise TypeError(f"a task queue needs MPI or one process, not {type(communicator).__name__}")
        self.exhausted = False
        self.finished = False
        self.done = 0
        self.units = 0
        self._communicator = communicator
        self._count = count
        self._next = 0
        # Or a quick rank would ask for tasks of this queue while rank 0 still answers for the one before.
        communicator.barrier("making a task queue")
        now = time.monotonic()
        self._asked: float | None = None  # when the request under way was sent
        self._told = now
        self._unsent = [0, 0]
        self._heard = dict.fromkeys(range(1, communicator.size), now)

    def exchange(self, wanted: int, done: int = 0, units: int = 0) -> list[int]:
        """Report `done` more tasks of `units` in all; return up to `wanted` new ones, perhaps none yet."""
        if self._communicator.rank:
            return self._ask(wanted, done, units)
        self._count_as_done(done, units)
        taken = self._take(wanted)
        if self._communicator.size > 1:
            self._answer()
        # Only when the others know it too may rank 0 stop answering.
        self.finished = self.done == self._count and not self._heard
        return taken

    def _take(self, wanted: int) -> list[int]:
        first, self._next = self._next, min(self._next + min(wanted, _AT_ONCE), self._count)
        self.exhausted = self._next == self._count
        return list(range(first, self._next))

    def _count_as_done(self, done: int, units: int) -> None:
        self.done += done
        self.units += units

    def _answer(self) -> None:
        """Serve every request that has arrived."""
        assert isinstance(self._communicator, MPICommunicator)
        request = torch.empty(3, dtype=torch.int64)
        while (rank := self._communicator.collect(request)) is not None:
            wanted, done, units = request.tolist()
            self._count_as_done(done, units)
            self._heard[rank] = time.monotonic()
            tasks = self._take(wanted)
            state = _EXHAUSTED if self.exhausted else _MORE
            if self.done == self._count:
                state = _FINISHED
                del self._heard[rank]
            self._communicator.post(torch.tensor([state, *tasks, *[-1] * (_AT_ONCE - len(tasks))]), rank)
        self._require_answers()

    def _ask(self, wanted: int, done: int, units: int) -> list[int]:
        """Take the answer to the last request, or send one if there is something to say."""
        assert isinstance(self._communicator, MPICommunicator)
        self._unsent = [self._unsent[0] + done, self._unsent[1] + units]
        now = time.monotonic()
        if self._asked is None:
            wanted = 0 if self.exhausted else wanted
            if wanted or any(self._unsent) or now - self._told > _HEARTBEAT_S:
                self._communicator.post(torch.tensor([wanted, *self._unsent]), 0)
                self._unsent = [0, 0]
                self._asked = self._told = now
            return []
        answer = torch.empty(1 + _AT_ONCE, dtype=torch.int64)
        if self._communicator.collect(answer) is None:
            if now - self._asked > self._communicator.time_limit:
                raise CommunicationError(
                    f"rank {self._communicator.rank} waited {now - self._asked:.0f} s for a task; "
                    "rank 0 does not answer. SEQBRAID_TIME_LIMIT sets the limit"
                )
            return []
        self._asked = None
        state, *tasks = answer.tolist()
        self.exhausted, self.finished = state != _MORE, state == _FINISHED
        return [task for task in tasks if task >= 0]

    def _require_answers(self) -> None:
        assert isinstance(self._communicator, MPICommunicator)
        now = time.monotonic()
        for rank, heard in self._heard.items():
            if now - heard > self._communicator.time_limit:
                raise CommunicationError(
                    f"rank {rank} was not heard of for {now - heard:.0f} s while tasks were shared out. "
                    "SEQBRAID_TIME_LIMIT sets the limit"
                )
