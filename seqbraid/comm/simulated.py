"""Logical ranks inside one process, one running at a time, each with a virtual clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from seqbraid.comm.base import Communicator
from seqbraid.comm.simulated_communicator import SimulatedCommunicator
from seqbraid.comm.simulated_run import LogicalRank, Run
from seqbraid.options import NetworkOptions

__all__ = ["SimulatedWorld"]

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
    one that was started, `start_all_reduce`, as late after the latest start, whatever is done meanwhile;
    `all_gather` by recursive doubling: ceil(log2 P) latency + (P - 1) / P of the gathered bytes / bandwidth
    (Thakur, Rabenseifner and Gropp, 2005, section 3.1).
    A crowded network is not modelled, and the ranks share one core's caches.

    """

    ranks: int
    latency: float = NetworkOptions.latency
    bandwidth: float = NetworkOptions.bandwidth
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
        where a message was never received or a sum that was started never waited for.
        """
        everyone = tuple(range(self.ranks))

        def on_rank(logical: LogicalRank) -> Result:
            return function(SimulatedCommunicator(logical, everyone))

        run = Run(self.ranks, self.latency, self.bandwidth, self.timer, on_rank)
        try:
            run.to_the_end()
        finally:
            run.stop()
            self.compute_seconds = [rank.compute_seconds for rank in run.ranks]
            self.communication_seconds = [rank.communication_seconds for rank in run.ranks]
            self.clocks = [rank.clock() for rank in run.ranks]
        return [rank.result for rank in run.ranks]
