"""Logical ranks inside one process, one running at a time, each with a virtual clock."""

from __future__ import annotations

import pickle
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator
from seqbraid.errors import CommunicationError

__all__ = ["SimulatedRank", "SimulatedWorld"]

Result = TypeVar("Result")


class SimulatedWorld:
    """P logical ranks in this process: exact tests of any P, and simulated strong scaling on one core.

    Args:
        ranks: P.
        latency: virtual seconds that every message takes (default 2e-6).
        bandwidth: bytes a virtual second of a message (default 10e9).
        timer: what measures a rank's compute, in seconds. `time.thread_time` leaves out what other programs
            take of the core; it is right where torch has one thread.

    Attributes:
        clocks: virtual seconds of each rank at the end of the latest run: the sum of the next two.
        compute_seconds: measured time that each rank ran outside of communication calls.
        communication_seconds: virtual time that each rank spent in them, waiting included.
        messages, bytes_sent: what each rank handed to `send`; collectives are not counted.

    A message arrives at the sender's clock + latency + bytes / bandwidth; `send` itself costs its caller
    nothing. A collective ends on every rank at the latest clock of all + ceil(log2 P) (latency + bytes /
    bandwidth), where a barrier has no bytes and `all_gather_objects` those of all pickled values together.
    Messages share no link, so a crowded network is not modelled; nor are caches, which ranks have in common.

    """

    def __init__(
        self,
        ranks: int,
        latency: float = 2e-6,
        bandwidth: float = 10e9,
        *,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
            raise ValueError(f"ranks is {ranks!r}; expected a whole number of at least 1")
        if not latency >= 0:
            raise ValueError(f"latency is {latency!r}; expected seconds, at least 0")
        if not bandwidth > 0:
            raise ValueError(f"bandwidth is {bandwidth!r}; expected bytes a second, more than 0")
        self.ranks = ranks
        self.latency = latency
        self.bandwidth = bandwidth
        self.timer = timer
        self.clocks: list[float] = []
        self.compute_seconds: list[float] = []
        self.communication_seconds: list[float] = []
        self.messages: list[int] = []
        self.bytes_sent: list[int] = []

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
            self.clocks = [rank.clock() for rank in run.ranks]
            self.compute_seconds = [rank.compute_seconds for rank in run.ranks]
            self.communication_seconds = [rank.communication_seconds for rank in run.ranks]
            self.messages = [rank.messages for rank in run.ranks]
            self.bytes_sent = [rank.bytes_sent for rank in run.ranks]
        return [rank.result for rank in run.ranks]


class _Stopped(BaseException):
    """Ends a rank after a failure elsewhere; no Exception, since a function's handlers are not for it."""


@dataclass
class _Message:
    arrival: float
    tensor: Tensor
    what: str


@dataclass
class _Meeting:
    """A collective call that some ranks have entered; `call` must be the same for all."""

    call: str
    what: str
    payloads: dict[int, Any] = field(default_factory=dict)
    clock: float = 0.0
    size_in_bytes: int = 0
    result: Any = None


class _Run(Generic[Result]):
    """The state that the ranks of one run share, and the scheduler that hands the baton to one of them."""

    def __init__(self, world: SimulatedWorld, function: Callable[[Communicator], Result]) -> None:
        self.world = world
        self.function = function
        self.grad_enabled = torch.is_grad_enabled()
        self.threads = torch.get_num_threads()
        self.mail: defaultdict[tuple[int, int], deque[_Message]] = defaultdict(deque)
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
                origin = CommunicationError(f"raised on rank {able.rank} of {able.size}")
                # `from` replaces the error's own cause, which is kept one further down.
                shown = able.error.__cause__ or able.error.__context__
                origin.__cause__ = None if shown is None and able.error.__suppress_context__ else shown
                raise able.error from origin
        for (source, destination), messages in self.mail.items():
            if messages:
                raise CommunicationError(
                    f"rank {destination} never received what rank {source} sent in {messages[0].what}"
                )

    def stop(self) -> None:
        """End the ranks that are still waiting, one after the other, and all threads."""
        self.stopped = True
        for rank in self.ranks:
            if rank.thread.is_alive():
                rank.turn.set()
                rank.thread.join()


class SimulatedRank:
    """The communicator of one logical rank; see `SimulatedWorld`. Of use while its run lasts."""

    def __init__(self, run: _Run[Any], rank: int) -> None:
        self.rank = rank
        self.size = run.world.ranks
        self.compute_seconds = 0.0
        self.communication_seconds = 0.0
        self.messages = 0
        self.bytes_sent = 0
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
            self.messages += 1
            self.bytes_sent += tensor.nbytes
            message = _Message(self.clock() + self._seconds(tensor.nbytes), _copy(tensor), what)
            self._run.mail[self.rank, destination].append(message)

    def receive(self, tensor: Tensor, source: int, what: str) -> Tensor:
        """See `Communicator.receive`."""
        with self._call(what, source):
            messages = self._run.mail[source, self.rank]
            self._wait_until(lambda: bool(messages), lambda: f"in {what} for a message from rank {source}")
            message = messages.popleft()
            if _form(message.tensor) != _form(tensor):
                raise CommunicationError(
                    f"rank {self.rank} expects {_form(tensor)} from rank {source} in {what}, but it sent "
                    f"{_form(message.tensor)} in {message.what}"
                )
            self._advance_to(message.arrival)
            tensor.detach().copy_(message.tensor)
        return tensor

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """See `Communicator.all_reduce`; the ranks' tensors are added in rank order."""

        def in_rank_order(tensors: list[Tensor]) -> Tensor:
            total = tensors[0]
            for each in tensors[1:]:
                total += each
            return total

        with self._call(what):
            call = f"all_reduce of {_form(tensor)}"
            total = self._meet(call, what, _copy(tensor), tensor.nbytes, in_rank_order)
            tensor.detach().copy_(total)
        return tensor

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """See `Communicator.broadcast`."""
        with self._call(what, root):
            call = f"broadcast from rank {root} of {_form(tensor)}"
            payload = _copy(tensor) if self.rank == root else None
            sent = self._meet(call, what, payload, tensor.nbytes, lambda payloads: payloads[root])
            tensor.detach().copy_(sent)
        return tensor

    def all_gather_objects(self, value: Any, what: str) -> list[Any]:
        """See `Communicator.all_gather_objects`; values are pickled, as between processes."""
        with self._call(what):
            pickled = pickle.dumps(value)
            everyones = self._meet("all_gather_objects", what, pickled, None, list)
            return [pickle.loads(each) for each in everyones]

    def barrier(self, what: str) -> None:
        """See `Communicator.barrier`."""
        with self._call(what):
            self._meet("barrier", what, None, 0, list)

    def _main(self) -> None:
        run = self._run
        try:
            self._await_turn()
            torch.set_num_threads(run.threads)
            with torch.set_grad_enabled(run.grad_enabled):
                self._left_last_call = self._now()
                self.result = run.function(self)
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self._charge_compute()
            self.ended = True
            self.whereabouts = lambda: f"rank {self.rank} has ended"
            run.baton_is_back.set()

    @contextmanager
    def _call(self, what: str, peer: int = 0) -> Iterator[None]:
        """Charge what the rank computed before a communication call, and start the timer anew after it."""
        if threading.current_thread() is not self.thread:
            # A backward pass on a GPU would come here too: autograd runs it in a thread of its own.
            raise CommunicationError(
                f"{what}: the communicator of simulated rank {self.rank} was used outside of its run or in "
                "another thread than its rank's"
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

    def _seconds(self, size_in_bytes: int) -> float:
        return self._run.world.latency + size_in_bytes / self._run.world.bandwidth

    def _await_turn(self) -> None:
        self.turn.wait()
        self.turn.clear()
        if self._run.stopped:
            raise _Stopped

    def _wait_until(self, can_go_on: Callable[[], bool], where: Callable[[], str]) -> None:
        """Give up the baton until `can_go_on()`."""
        if can_go_on():
            return
        self.can_go_on = can_go_on
        self.whereabouts = lambda: f"rank {self.rank} waits {where()}"
        self._run.baton_is_back.set()
        self._await_turn()

    def _meet(
        self,
        call: str,
        what: str,
        payload: Any,
        size_in_bytes: int | None,
        combine: Callable[[list[Any]], Any],
    ) -> Any:
        """Wait for all ranks in a collective and return what `combine` makes of their payloads, once."""
        run = self._run
        meeting = run.meeting = run.meeting or _Meeting(call, what)
        payloads = meeting.payloads
        if meeting.call != call:
            raise CommunicationError(
                f"rank {self.rank} is in {call} ({what}), but rank {min(payloads)} is in {meeting.call} "
                f"({meeting.what}); every rank must make the same calls"
            )
        payloads[self.rank] = payload
        meeting.clock = max(meeting.clock, self.clock())
        meeting.size_in_bytes = (
            meeting.size_in_bytes + len(payload) if size_in_bytes is None else size_in_bytes
        )
        if len(payloads) == self.size:
            meeting.result = combine([payloads[rank] for rank in range(self.size)])
            run.meeting = None

        def where() -> str:
            absent = [str(rank) for rank in range(self.size) if rank not in payloads]
            return f"in {what} ({call}) for rank{'s' * (len(absent) > 1)} {', '.join(absent)}"

        self._wait_until(lambda: len(payloads) == self.size, where)
        rounds = (self.size - 1).bit_length()
        self._advance_to(meeting.clock + rounds * self._seconds(meeting.size_in_bytes))
        return meeting.result


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
