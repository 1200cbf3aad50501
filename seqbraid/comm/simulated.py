"""Logical ranks inside one process, one running at a time, each with a virtual clock."""

from __future__ import annotations

import pickle
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator
from seqbraid.errors import CommunicationError

__all__ = ["SimulatedRank", "SimulatedWorld"]

Result = TypeVar("Result")


@dataclass(eq=False)
class SimulatedWorld:
    """P logical ranks in this process: exact tests of any P, and simulated strong scaling on one core.

    Args:
        ranks: P.
        latency: virtual seconds that every message takes (default 2e-6).
        bandwidth: bytes of a message in a virtual second (default 10e9).
        timer: what measures a rank's compute, in seconds. `time.thread_time` leaves out what other programs
            take of the core; it is right where torch has one thread.

    Attributes:
        compute_seconds: measured time of each rank outside of communication calls, in the latest run.
        communication_seconds: virtual time of each rank inside them, waiting included.
        clocks: the sum of the two, each rank's virtual seconds at its end.

    A message arrives at the sender's clock + latency + bytes / bandwidth; `send` itself costs its caller
    nothing. A collective ends on every rank at the latest clock of all + ceil(log2 P) (latency + bytes /
    bandwidth), where a barrier has no bytes and `all_gather_objects` P times those of the longest pickle;
    `all_gather` by recursive doubling: ceil(log2 P) latency + (P - 1) / P of the gathered bytes / bandwidth
    (Thakur, Rabenseifner and Gropp, 2005, section 3.1).
    A crowded network is not modelled, and the ranks share one core's caches.

    """

    ranks: int
    latency: float = 2e-6
    bandwidth: float = 10e9
    timer: Callable[[], float] = field(default=time.perf_counter, kw_only=True)
    compute_seconds: list[float] = field(default_factory=list, init=False)
    communication_seconds: list[float] = field(default_factory=list, init=False)
    clocks: list[float] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.ranks, bool) or not isinstance(self.ranks, int) or self.ranks < 1:
            raise ValueError(f"ranks is {self.ranks!r}; expected a whole number of at least 1")
        if not self.latency >= 0:
            raise ValueError(f"latency is {self.latency!r}; expected seconds, at least 0")
        if not self.bandwidth > 0:
            raise ValueError(f"bandwidth is {self.bandwidth!r}; expected bytes a second, more than 0")

    def run(self, function: Callable[[Communicator], Result]) -> list[Result]:
        """Call `function(comm)` on every logical rank and return the results in rank order.

        The lowest rank that can go on runs until it must wait or ends, so nothing depends on timing. Each
        rank is a thread with the caller's grad mode and number of torch threads. They share the process:
        a function that draws from torch's default generator seeds it first, and draws before it communicates.

        The first exception of a rank stops the others and is raised here, its cause naming the rank. Raises
        `CommunicationError` where ranks wait for one another for ever, where their calls do not match, and
        where a message was never received.
        """
        run = _Run(self, function)
        try:
            run.to_the_end()
        finally:
            run.stop()
            self.compute_seconds = [rank.compute_seconds for rank in run.ranks]
            self.communication_seconds = [rank.communication_seconds for rank in run.ranks]
            self.clocks = [rank.clock() for rank in run.ranks]
        return [rank.result for rank in run.ranks]


class _Stopped(BaseException):
    """Ends a rank after a failure elsewhere; no Exception, since a function's handlers are not for it."""


@dataclass
class _Meeting:
    """A collective call that some ranks have entered; `call` must be the same for all."""

    call: str
    what: str
    payloads: dict[int, Any] = field(default_factory=dict)
    clock: float = 0.0
    seconds: float = 0.0
    result: Any = None


class _Run:
    """What the ranks of one run share, and the scheduler, which hands the baton to one of them at a time."""

    def __init__(self, world: SimulatedWorld, function: Callable[[Communicator], Any]) -> None:
        self.world = world
        self.function = function
        self.grad_enabled = torch.is_grad_enabled()
        self.threads = torch.get_num_threads()
        # By source and destination: messages' time of arrival, tensor and what they were sent for.
        self.mail: defaultdict[tuple[int, int], deque[tuple[float, Tensor, str]]] = defaultdict(deque)
        self.meeting: _Meeting | None = None
        self.baton_is_back = threading.Event()
        self.stopped = False
        self.ranks = [SimulatedRank(self, rank) for rank in range(world.ranks)]

    def to_the_end(self) -> None:
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
                origin = CommunicationError(f"the next error was raised on rank {able.rank} of {able.size}")
                origin.__cause__ = error.__cause__ if error.__suppress_context__ else error.__context__
                raise error from origin
        for (source, destination), messages in self.mail.items():
            for _, _, what in messages:
                raise CommunicationError(
                    f"rank {destination} never received what rank {source} sent in {what}"
                )

    def stop(self) -> None:
        """End the ranks that are still waiting, one after the other, and every thread."""
        self.stopped = True
        for rank in self.ranks:
            if rank.thread.is_alive():
                rank.turn.set()
                rank.thread.join()


class SimulatedRank:
    """The communicator of one logical rank, while its run lasts; see `SimulatedWorld`."""

    def __init__(self, run: _Run, rank: int) -> None:
        self.rank = rank
        self.size = run.world.ranks
        self.compute_seconds = 0.0
        self.communication_seconds = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self.turn = threading.Event()
        self.thread = threading.Thread(target=self._main, name=f"simulated rank {rank}", daemon=True)
        self.can_go_on: Callable[[], bool] = lambda: True
        self.whereabouts: Callable[[], str] = lambda: f"rank {rank} has not begun"
        self._run = run
        self._now = run.world.timer
        self._left_last_call: float | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedRank:
        """Return itself: a copied module works with the same ranks."""
        return self

    def clock(self) -> float:
        """See `Communicator.clock`: this rank's virtual seconds so far."""
        running = 0.0 if self._left_last_call is None else self._now() - self._left_last_call
        return self.compute_seconds + self.communication_seconds + running

    def send(self, tensor: Tensor, destination: int, what: str) -> None:
        """See `Communicator.send`."""
        with self._call(what, destination):
            arrival = self.clock() + self._seconds(tensor.nbytes)
            self._run.mail[self.rank, destination].append((arrival, _copy(tensor), what))

    def receive(self, tensor: Tensor, source: int, what: str) -> Tensor:
        """See `Communicator.receive`."""
        with self._call(what, source):
            messages = self._run.mail[source, self.rank]
            self._wait_until(lambda: bool(messages), lambda: f"in {what} for a message from rank {source}")
            arrival, message, sent_in = messages.popleft()
            if _form(message) != _form(tensor):
                raise CommunicationError(
                    f"rank {self.rank} expects {_form(tensor)} from rank {source} in {what}, but it sent "
                    f"{_form(message)} in {sent_in}"
                )
            self._advance_to(arrival)
            tensor.detach().copy_(message)
        return tensor

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """See `Communicator.all_reduce`; the ranks' tensors are added in rank order."""
        with self._call(what):
            call = f"all_reduce of {_form(tensor)}"
            sum_in_order = partial(reduce, torch.add)
            tensor.detach().copy_(
                self._meet(call, what, _copy(tensor), self._tree(tensor.nbytes), sum_in_order)
            )
        return tensor

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """See `Communicator.broadcast`."""
        with self._call(what, root):
            call = f"broadcast from rank {root} of {_form(tensor)}"
            payload = _copy(tensor) if self.rank == root else None
            tensor.detach().copy_(self._meet(call, what, payload, self._tree(tensor.nbytes))[root])
        return tensor

    def all_gather(self, share: Tensor, everything: Tensor, counts: Sequence[int], what: str) -> Tensor:
        """See `Communicator.all_gather`."""
        with self._call(what):
            rows = counts[self.rank]
            if len(share) != rows or len(everything) != sum(counts):
                raise CommunicationError(
                    f"rank {self.rank} gives {len(share)} of {len(everything)} rows in {what}; "
                    f"expected {rows} of {sum(counts)}"
                )
            call = f"all_gather into {_form(everything)}"
            sent = everything.nbytes * (self.size - 1) / self.size
            seconds = self._rounds() * self._run.world.latency + sent / self._run.world.bandwidth
            everything.detach().copy_(torch.cat(self._meet(call, what, _copy(share), seconds)))
        return everything

    def all_gather_objects(self, value: Any, what: str) -> list[Any]:
        """See `Communicator.all_gather_objects`; values are pickled, as between processes."""
        with self._call(what):
            pickled = pickle.dumps(value)
            everyones = self._meet("all_gather_objects", what, pickled, self._tree(self.size * len(pickled)))
            return [pickle.loads(each) for each in everyones]

    def barrier(self, what: str) -> None:
        """See `Communicator.barrier`."""
        with self._call(what):
            self._meet("barrier", what, None, self._tree(0))

    def _main(self) -> None:
        try:
            self._await_turn()
            torch.set_num_threads(self._run.threads)
            with torch.set_grad_enabled(self._run.grad_enabled):
                self._left_last_call = self._now()
                self.result = self._run.function(self)
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self._charge_compute()
            self.whereabouts = lambda: f"rank {self.rank} has ended"
            self.ended = True
            self._run.baton_is_back.set()

    @contextmanager
    def _call(self, what: str, peer: int = 0) -> Iterator[None]:
        """Charge what the rank computed before a communication call, and start the timer anew after it."""
        if threading.current_thread() is not self.thread:
            # A backward pass on a GPU would come here too: autograd runs it in a thread of its own.
            raise CommunicationError(
                f"{what}: simulated rank {self.rank} was used after its run or in another thread than its own"
            )
        self._charge_compute()
        try:
            if self._run.stopped:
                raise _Stopped
            if not 0 <= peer < self.size:
                raise ValueError(f"{what}: there is no rank {peer}; expected 0 to {self.size - 1}")
            yield
        finally:
            self._left_last_call = self._now()

    def _charge_compute(self) -> None:
        if self._left_last_call is not None:
            self.compute_seconds += self._now() - self._left_last_call
            self._left_last_call = None

    def _advance_to(self, clock: float) -> None:
        self.communication_seconds += max(0.0, clock - self.clock())

    def _seconds(self, nbytes: int) -> float:
        return self._run.world.latency + nbytes / self._run.world.bandwidth

    def _rounds(self) -> int:
        return (self.size - 1).bit_length()

    def _tree(self, nbytes: int) -> float:
        """Return the seconds of a collective that hands all bytes on in every round of a binary tree."""
        return self._rounds() * self._seconds(nbytes)

    def _await_turn(self) -> None:
        self.turn.wait()
        self.turn.clear()
        if self._run.stopped:
            raise _Stopped

    def _wait_until(self, can_go_on: Callable[[], bool], where: Callable[[], str]) -> None:
        """Give up the baton until `can_go_on()`."""
        if not can_go_on():
            self.can_go_on = can_go_on
            self.whereabouts = lambda: f"rank {self.rank} waits {where()}"
            self._run.baton_is_back.set()
            self._await_turn()

    def _meet(
        self, call: str, what: str, payload: Any, seconds: float, combine: Callable[[list[Any]], Any] = list
    ) -> Any:
        """Wait for all ranks in a collective; return what `combine` made, once, of their payloads."""
        meeting = self._run.meeting = self._run.meeting or _Meeting(call, what)
        payloads = meeting.payloads
        if meeting.call != call:
            raise CommunicationError(
                f"rank {self.rank} is in {call} ({what}), but rank {min(payloads)} is in {meeting.call} "
                f"({meeting.what}); every rank must make the same calls"
            )
        payloads[self.rank] = payload
        meeting.clock = max(meeting.clock, self.clock())
        meeting.seconds = max(meeting.seconds, seconds)
        if len(payloads) == self.size:
            meeting.result = combine([payloads[rank] for rank in range(self.size)])
            self._run.meeting = None

        def where() -> str:
            absent = ", ".join(f"rank {rank}" for rank in range(self.size) if rank not in payloads)
            return f"in {what} ({call}) for {absent}"

        self._wait_until(lambda: len(payloads) == self.size, where)
        self._advance_to(meeting.clock + meeting.seconds)
        return meeting.result


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
