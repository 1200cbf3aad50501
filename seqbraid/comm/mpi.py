"""The communicator over MPI: tensors travel as contiguous buffers, and no wait is endless."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqbraid.comm.single import SingleProcess
from seqbraid.errors import CommunicationError, OptionsError

__all__ = ["MPICommunicator", "wrap_mpi"]

_TAG, _MAIL_TAG = 7001, 7002


def _time_limit() -> float:
    text = os.environ.get("SEQBRAID_TIME_LIMIT", "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise OptionsError(f"SEQBRAID_TIME_LIMIT is {text!r}; expected a positive number of seconds")
    return seconds


class MPICommunicator:
    """An `mpi4py` communicator behind the `Communicator` protocol.

    The communicator is duplicated, so that messages of the solver never meet messages of the caller, unless
    `duplicate` is false: nobody else has it then. A wait longer than `time_limit` seconds (default: the
    environment variable SEQBRAID_TIME_LIMIT, else 600) raises `CommunicationError` naming the call that this
    rank was in.
    """

    def __init__(
        self, mpi_communicator: Any, time_limit: float | None = None, duplicate: bool = True
    ) -> None:
        self.rank: int = mpi_communicator.Get_rank()
        self.size: int = mpi_communicator.Get_size()
        self.time_limit = _time_limit() if time_limit is None else time_limit
        self._mpi = mpi_communicator
        if duplicate:
            self._mpi, request = mpi_communicator.Idup()
            self.wait_for(request, "the first use of comm (making a module, a grid, or calling fit)")
        # Sends in flight: MPI reads the buffer until the request completes, so both are kept till then.
        self._in_flight: list[tuple[Any, Tensor]] = []
        # Sums under way: MPI reads and writes their buffers even where nobody waits for them any more.
        self._under_way: list[_StartedSum] = []
        self._splits: dict[tuple[int, ...], MPICommunicator] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> MPICommunicator:
        """Return itself: a copied module works with the same ranks."""
        return self

    def send(self, tensor: Tensor, destination: int, what: str) -> None:
        """See `Communicator.send`."""
        self._send(tensor, destination, _TAG)

    def _send(self, tensor: Tensor, destination: int, tag: int) -> None:
        self._in_flight = [(request, buffer) for request, buffer in self._in_flight if not request.Test()]
        # A copy, since the caller may overwrite the tensor while the message is under way.
        buffer = tensor.detach().to("cpu", copy=True).contiguous()
        self._in_flight.append((self._mpi.Isend(buffer.numpy(), destination, tag), buffer))

    def receive(self, tensor: Tensor, source: int, what: str) -> Tensor:
        """See `Communicator.receive`."""
        buffer = _host_buffer(tensor)
        self.wait_for(self._mpi.Irecv(buffer.numpy(), source, _TAG), f"{what} (a message from rank {source})")
        return _store(buffer, tensor)

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        """See `Communicator.all_reduce`."""
        return self.start_all_reduce(tensor, what).wait()

    def start_all_reduce(self, tensor: Tensor, what: str) -> _StartedSum:
        """See `Communicator.start_all_reduce`."""
        buffer = tensor.detach().to("cpu").contiguous()
        total = torch.empty_like(buffer)
        request = self._mpi.Iallreduce(buffer.numpy(), total.numpy())
        self._under_way = [started for started in self._under_way if not started.request.Test()]
        self._under_way.append(_StartedSum(self, request, buffer, total, tensor, what))
        return self._under_way[-1]

    def finish(self, started: _StartedSum) -> Tensor:
        """Wait for a sum that was started, and return its tensor."""
        if not started.finished:
            self.wait_for(started.request, started.what)
            _store(started.total, started.tensor)
            started.finished = True
            self._under_way = [other for other in self._under_way if other is not started]
        return started.tensor

    def broadcast(self, tensor: Tensor, root: int, what: str) -> Tensor:
        """See `Communicator.broadcast`."""
        buffer = _host_buffer(tensor)
        if self.rank == root and buffer is not tensor:
            buffer.copy_(tensor)
        self.wait_for(self._mpi.Ibcast(buffer.numpy(), root), f"{what} (a broadcast from rank {root})")
        return _store(buffer, tensor)

    def all_gather(self, local: Tensor, everything: Tensor, counts: Sequence[int], what: str) -> Tensor:
        """See `Communicator.all_gather`."""
        mine = local.detach().to("cpu").contiguous()
        buffer = _host_buffer(everything)
        size_of_one = buffer[:1].numel()
        elements = [count * size_of_one for count in counts]
        starts = list(itertools.accumulate(elements[:-1], initial=0))
        self.wait_for(self._mpi.Iallgatherv(mine.numpy(), [buffer.numpy(), (elements, starts)]), what)
        return _store(buffer, everything)

    def all_gather_objects(self, value: Any, what: str) -> list[Any]:
        """See `Communicator.all_gather_objects`."""
        self.barrier(what)  # bounded in time, which mpi4py's own gathering of objects is not
        gathered: list[Any] = self._mpi.allgather(value)
        return gathered

    def split(self, ranks: Sequence[int]) -> MPICommunicator | SingleProcess:
        """See `Communicator.split`; a rank alone needs no communicator of MPI."""
        chosen = tuple(ranks)
        if chosen == tuple(range(self.size)):
            return self
        if len(chosen) == 1:
            return SingleProcess()
        # Bounded in time, which making a communicator is not.
        self.barrier(f"making communicators of {len(chosen)} of {self.size} ranks")
        if chosen not in self._splits:
            group = self._mpi.Get_group().Incl(chosen)
            # Other groups may have theirs already, and not come to this call.
            of_group = self._mpi.Create_group(group)
            self._splits[chosen] = MPICommunicator(of_group, self.time_limit, duplicate=False)
        return self._splits[chosen]

    def clock(self) -> float:
        """See `Communicator.clock`: wall time."""
        return time.perf_counter()

    def post(self, tensor: Tensor, destination: int) -> None:
        """Send to a rank that looks for messages with `collect`; returns without waiting for it."""
        self._send(tensor, destination, _MAIL_TAG)

    def collect(self, tensor: Tensor) -> int | None:
        """Fill `tensor` with a posted message, if one is there, and return its sender; else None, at once."""
        from mpi4py import MPI

        status = MPI.Status()
        if not self._mpi.Iprobe(MPI.ANY_SOURCE, _MAIL_TAG, status):
            return None
        source = int(status.Get_source())
        buffer = _host_buffer(tensor)
        self._mpi.Recv(buffer.numpy(), source, _MAIL_TAG)
        _store(buffer, tensor)
        return source

    def barrier(self, what: str) -> None:
        """See `Communicator.barrier`."""
        self.wait_for(self._mpi.Ibarrier(), what)

    def wait_for(self, request: Any, what: str) -> None:
        """Wait by polling: MPI's own waits have no time limit, and spin on a core that others may need."""
        start = time.monotonic()
        polls = 0
        while not request.Test():
            polls += 1
            if polls < 200:
                time.sleep(0)
                continue
            waited = time.monotonic() - start
            if waited > self.time_limit:
                raise CommunicationError(
                    f"rank {self.rank} of {self.size} waited {waited:.0f} s in {what}; some rank did not "
                    "call it. Every rank must make the same calls; SEQBRAID_TIME_LIMIT sets the limit"
                )
            time.sleep(2e-5 if waited < 0.05 else 1e-3)


@dataclass(eq=False)
class _StartedSum:
    """A request, and the buffers that MPI reads and writes until it completes; see `Pending`."""

    communicator: MPICommunicator
    request: Any
    buffer: Tensor
    total: Tensor
    tensor: Tensor
    what: str
    finished: bool = False

    def wait(self) -> Tensor:
        """See `Pending.wait`."""
        return self.communicator.finish(self)


_wrapper_key: int | None = None


def wrap_mpi(mpi_communicator: Any) -> MPICommunicator:
    """Return the one `MPICommunicator` of an `mpi4py` communicator; collective at the first call for it.

    It is kept as an attribute of the communicator itself: MPI has room for some thousand duplicates only.
    """
    from mpi4py import MPI

    global _wrapper_key
    if _wrapper_key is None:
        _wrapper_key = MPI.Comm.Create_keyval()
    wrapper: MPICommunicator | None = mpi_communicator.Get_attr(_wrapper_key)
    if wrapper is None:
        wrapper = MPICommunicator(mpi_communicator)
        mpi_communicator.Set_attr(_wrapper_key, wrapper)
    return wrapper


def _host_buffer(tensor: Tensor) -> Tensor:
    """Return `tensor` itself where MPI can write into it, else an empty one in host memory."""
    if tensor.device.type == "cpu" and tensor.is_contiguous():
        return tensor.detach()
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _store(buffer: Tensor, tensor: Tensor) -> Tensor:
    if buffer.data_ptr() != tensor.data_ptr():
        tensor.detach().copy_(buffer)
    return tensor
