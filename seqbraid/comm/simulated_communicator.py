"""The communicator of a simulated rank: messages among some or all ranks of a run, in virtual time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from seqbraid.comm.simulated_run import LogicalRank, Meeting, Ranks
from seqbraid.errors import CommunicationError

__all__ = ["SimulatedCommunicator"]


class SimulatedCommunicator:
    """A logical rank's communicator with `ranks` of its run, while that lasts; see `SimulatedWorld`.

    Those that `split` gives share the rank's clock, and cost messages among their own ranks only.
    """

    def __init__(self, logical: LogicalRank, ranks: Ranks) -> None:
        self.rank = ranks.index(logical.number)
        self.size = len(ranks)
        self._logical = logical
        self._ranks = ranks
        self._calls = 0
        self._splits: dict[Ranks, SimulatedCommunicator] = {ranks: self}

    def __deepcopy__(self, memo: dict[int, Any]) -> SimulatedCommunicator:
        """Return itself: a copied module works with the same ranks."""
        return self

    @property
    def communication_seconds(self) -> float:
        """Virtual seconds that the rank has spent in communication calls, waiting included."""
        return self._logical.communication_seconds

    def clock(self) -> float:
        """See `Communicator.clock`: this rank's virtual seconds so far."""
        return self._logical.clock()

    def split(self, ranks: Sequence[int]) -> SimulatedCommunicator:
        """See `Communicator.split`; costs nothing in virtual time."""
        chosen = tuple(self._ranks[rank] for rank in ranks)
        return self._splits.setdefault(chosen, SimulatedCommunicator(self._logical, chosen))

    def send(self, tensor: Tensor, destination: int, what: str) -> None:
        """See `Communicator.send`."""
        with self._call(what, destination):
            arrival = self.clock() + self._seconds(tensor.nbytes)
            self._mail(self.rank, destination).append((arrival, _copy(tensor), what))

    def receive(self, tensor: Tensor, source: int, what: str) -> Tensor:
        """See `Communicator.receive`."""
        with self._call(what, source):
            messages = self._mail(source, self.rank)
            sender = f"rank {self._ranks[source]}"
            self._logical.wait_until(lambda: bool(messages), lambda: f"in {what} for a message from {sender}")
            arrival, message, sent_in = messages.popleft()
            if _form(message) != _form(tensor):
                raise CommunicationError(
                    f"rank {self._logical.number} expects {_form(tensor)} from {sender} in {what}, but it "
                    f"sent {_form(message)} in {sent_in}"
                )
            self._logical.advance_to(arrival)
            tensor.detach().copy_(message)
        return tensor

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """See `Communicator.all_reduce`; the ranks' tensors are added in rank order."""
        with self._call(what):
            call = f"all_reduce of {_form(tensor)}"
            tensor.detach().copy_(self._finish(self._enter_sum(call, what, tensor)))
        return tensor

    def start_all_reduce(self, tensor: Tensor, what: str) -> _StartedSum:
        """See `Communicator.start_all_reduce`: it takes as long as `all_reduce`, from its last start on."""
        with self._call(what):
            meeting = self._enter_sum(f"start_all_reduce of {_form(tensor)}", what, tensor)
            self._logical.not_waited_for[id(meeting)] = what
        return _StartedSum(self, meeting, tensor)

    def wait_for_sum(self, meeting: Meeting, tensor: Tensor) -> Tensor:
        """Fill `tensor` with what `start_all_reduce` was to sum."""
        with self._call(meeting.what):
            if self._logical.not_waited_for.pop(id(meeting), None) is not None:
                tensor.detach().copy_(self._finish(meeting))
        return tensor

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """See `Communicator.broadcast`."""
        with self._call(what, root):
            call = f"broadcast from rank {root} of {_form(tensor)}"
            payload = _copy(tensor) if self.rank == root else None
            tensor.detach().copy_(self._meet(call, what, payload, self._tree(tensor.nbytes))[root])
        return tensor

    def all_gather(self, local: Tensor, everything: Tensor, counts: Sequence[int], what: str) -> Tensor:
        """See `Communicator.all_gather`."""
        with self._call(what):
            rows = counts[self.rank]
            if len(local) != rows or len(everything) != sum(counts):
                raise CommunicationError(
                    f"rank {self._logical.number} gives {len(local)} of {len(everything)} rows in {what}; "
                    f"expected {rows} of {sum(counts)}"
                )
            call = f"all_gather into {_form(everything)}"
            sent = everything.nbytes * (self.size - 1) / self.size
            seconds = self._rounds() * self._logical.run.latency + sent / self._logical.run.bandwidth
            everything.detach().copy_(torch.cat(self._meet(call, what, _copy(local), seconds)))
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

    @contextmanager
    def _call(self, what: str, peer: int = 0) -> Iterator[None]:
        with self._logical.call(what):
            if not 0 <= peer < self.size:
                raise ValueError(f"{what}: there is no rank {peer}; expected 0 to {self.size - 1}")
            yield

    def _mail(self, source: int, destination: int) -> Any:
        return self._logical.run.mail[self._ranks, self._ranks[source], self._ranks[destination]]

    def _seconds(self, nbytes: int) -> float:
        return self._logical.run.latency + nbytes / self._logical.run.bandwidth

    def _rounds(self) -> int:
        return (self.size - 1).bit_length()

    def _tree(self, nbytes: int) -> float:
        """Return the seconds of a collective that hands all bytes on in every round of a binary tree."""
        return self._rounds() * self._seconds(nbytes)

    def _meet(
        self, call: str, what: str, payload: Any, seconds: float, combine: Callable[[list[Any]], Any] = list
    ) -> Any:
        """Wait for all ranks in a collective; return what `combine` made, once, of their payloads."""
        return self._finish(self._enter(call, what, payload, seconds, combine))

    def _enter_sum(self, call: str, what: str, tensor: Tensor) -> Meeting:
        in_order: Callable[[list[Any]], Any] = partial(reduce, torch.add)
        return self._enter(call, what, _copy(tensor), self._tree(tensor.nbytes), in_order)

    def _enter(
        self, call: str, what: str, payload: Any, seconds: float, combine: Callable[[list[Any]], Any]
    ) -> Meeting:
        """Bring this rank's part to the collective that is its next one here; does not wait."""
        meetings, key = self._logical.run.meetings, (self._ranks, self._calls)
        self._calls += 1
        meeting = meetings.setdefault(key, Meeting(call, what))
        payloads = meeting.payloads
        if meeting.call != call:
            raise CommunicationError(
                f"rank {self._logical.number} is in {call} ({what}), but rank {min(payloads)} is in "
                f"{meeting.call} ({meeting.what}); every rank must make the same calls"
            )
        payloads[self._logical.number] = payload
        meeting.clock = max(meeting.clock, self.clock())
        meeting.seconds = max(meeting.seconds, seconds)
        if len(payloads) == self.size:
            meeting.result = combine([payloads[number] for number in self._ranks])
            del meetings[key]
        return meeting

    def _finish(self, meeting: Meeting) -> Any:
        """Wait until all ranks have come, and the seconds of the call have passed; return its result."""
        payloads = meeting.payloads

        def where() -> str:
            absent = ", ".join(f"rank {number}" for number in self._ranks if number not in payloads)
            return f"in {meeting.what} ({meeting.call}) for {absent}"

        self._logical.wait_until(lambda: len(payloads) == self.size, where)
        self._logical.advance_to(meeting.clock + meeting.seconds)
        return meeting.result


class _StartedSum:
    """See `Pending`."""

    def __init__(self, communicator: SimulatedCommunicator, meeting: Meeting, tensor: Tensor) -> None:
        self._communicator = communicator
        self._meeting = meeting
        self._tensor = tensor

    def wait(self) -> Tensor:
        """See `Pending.wait`."""
        return self._communicator.wait_for_sum(self._meeting, self._tensor)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
