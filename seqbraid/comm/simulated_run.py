"""Logical ranks as threads that take turns, the virtual clock of each, and what lies between them."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seqbraid.errors import CommunicationError

__all__ = ["LogicalRank", "Meeting", "Run"]

Ranks = tuple[int, ...]


class _Stopped(BaseException):
    """Ends a rank after a failure elsewhere; no Exception, since a function's handlers are not for it."""


@dataclass
class Meeting:
    """A collective call that some of the ranks have entered; `call` must be the same for all."""

    call: str
    what: str
    payloads: dict[int, Any] = field(default_factory=dict)
    clock: float = 0.0
    seconds: float = 0.0
    result: Any = None


class Run:
    """What the ranks of one run share, and the scheduler, which hands the baton to one of them at a time.

    `function` is called on each; `latency` and `bandwidth` are those of every message; `timer` measures
    compute.
    """

    def __init__(
        self,
        ranks: int,
        latency: float,
        bandwidth: float,
        timer: Callable[[], float],
        function: Callable[[LogicalRank], Any],
    ) -> None:
        self.latency = latency
        self.bandwidth = bandwidth
        self.timer = timer
        self.function = function
        self.grad_enabled = torch.is_grad_enabled()
        self.threads = torch.get_num_threads()
        # By communicator, source and destination: messages' time of arrival, tensor and what they were for.
        self.mail: defaultdict[tuple[Ranks, int, int], deque[tuple[float, Tensor, str]]] = defaultdict(deque)
        # By communicator and number of the call on it.
        self.meetings: dict[tuple[Ranks, int], Meeting] = {}
        self.baton_is_back = threading.Event()
        self.stopped = False
        self.ranks = [LogicalRank(self, rank) for rank in range(ranks)]

    def to_the_end(self) -> None:
        """Run all ranks; raises the first exception of one, and for what was left between them."""
        for rank in self.ranks:
            rank.thread.start()
        while not all(rank.ended for rank in self.ranks):
            able = next((rank for rank in self.ranks if not rank.ended and rank.can_go_on()), None)
            if able is None:
                raise CommunicationError("deadlock: " + "; ".join(rank.whereabouts() for rank in self.ranks))
            able.turn.set()
            self.baton_is_back.wait()
            self.baton_is_back.clear()
            if able.error is not None:
                error = able.error
                # What caused the error itself follows as the cause of the one that names the rank.
                origin = CommunicationError(
                    f"the next error was raised on rank {able.number} of {len(self.ranks)}"
                )
                origin.__cause__ = error.__cause__ if error.__suppress_context__ else error.__context__
                raise error from origin
        for (_, source, destination), messages in self.mail.items():
            for _, _, what in messages:
                raise CommunicationError(
                    f"rank {destination} never received what rank {source} sent in {what}"
                )
        for rank in self.ranks:
            for what in rank.not_waited_for.values():
                raise CommunicationError(f"rank {rank.number} never waited for the sum it started in {what}")

    def stop(self) -> None:
        """End the ranks that are still waiting, one after the other, and every thread."""
        self.stopped = True
        for rank in self.ranks:
            if rank.thread.is_alive():
                rank.turn.set()
                rank.thread.join()


class LogicalRank:
    """A thread that runs in its turns, and its virtual clock; its communicators have the messages."""

    def __init__(self, run: Run, number: int) -> None:
        self.run = run
        self.number = number
        self.compute_seconds = 0.0
        self.communication_seconds = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self.turn = threading.Event()
        self.thread = threading.Thread(target=self._main, name=f"simulated rank {number}", daemon=True)
        self.can_go_on: Callable[[], bool] = lambda: True
        self.whereabouts: Callable[[], str] = lambda: f"rank {number} has not begun"
        # What for, by the identity of the meeting.
        self.not_waited_for: dict[int, str] = {}
        self._left_last_call: float | None = None

    def clock(self) -> float:
        """Return this rank's virtual seconds so far."""
        running = 0.0 if self._left_last_call is None else self.run.timer() - self._left_last_call
        return self.compute_seconds + self.communication_seconds + running

    @contextmanager
    def call(self, what: str) -> Iterator[None]:
        """Charge what the rank computed before a communication call, and start the timer anew after it."""
        if threading.current_thread() is not self.thread:
            # A backward pass on a GPU would come here too: autograd runs it in a thread of its own.
            raise CommunicationError(
                f"{what}: simulated rank {self.number} was used after its run or in another thread than its "
                "own"
            )
        self._charge_compute()
        try:
            if self.run.stopped:
                raise _Stopped
            yield
        finally:
            self._left_last_call = self.run.timer()

    def advance_to(self, clock: float) -> None:
        """Wait, in virtual time, until `clock`."""
        self.communication_seconds += max(0.0, clock - self.clock())

    def wait_until(self, can_go_on: Callable[[], bool], where: Callable[[], str]) -> None:
        """Give up the baton until `can_go_on()`."""
        if not can_go_on():
            self.can_go_on = can_go_on
            self.whereabouts = lambda: f"rank {self.number} waits {where()}"
            self.run.baton_is_back.set()
            self._await_turn()

    def _main(self) -> None:
        try:
            self._await_turn()
            torch.set_num_threads(self.run.threads)
            with torch.set_grad_enabled(self.run.grad_enabled):
                self._left_last_call = self.run.timer()
                self.result = self.run.function(self)
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self._charge_compute()
            self.whereabouts = lambda: f"rank {self.number} has ended"
            self.ended = True
            self.run.baton_is_back.set()

    def _await_turn(self) -> None:
        self.turn.wait()
        self.turn.clear()
        if self.run.stopped:
            raise _Stopped

    def _charge_compute(self) -> None:
        if self._left_last_call is not None:
            self.compute_seconds += self.run.timer() - self._left_last_call
            self._left_last_call = None
