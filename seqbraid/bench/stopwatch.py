"""Repeated measurements of several contenders, in turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Times", "interleave", "stopwatch", "without_collector"]

Name = TypeVar("Name")


@dataclass(frozen=True)
class Times:
    """The seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, which one disturbed repeat does not move."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The smallest: what an undisturbed machine would come close to."""
        return min(self.seconds)


def stopwatch(
    function: Callable[[], object], timer: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """Return a function that calls `function` and returns the seconds that it took."""

    def timed() -> float:
        start = timer()
        function()
        return timer() - start

    return timed


@contextmanager
def without_collector() -> Iterator[Callable[[], object]]:
    """Switch Python's garbage collector off; gives a function that collects, for between two measurements.

    A full collection takes as long as a short pass, and would fall on one contender, or one simulated rank.
    """
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there already need not be searched again
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


def interleave(
    contenders: Mapping[Name, Callable[[], float]],
    repeats: int,
    tick: Callable[[], object] = lambda: None,
    warm_up: bool = True,
) -> dict[Name, Times]:
    """Call the contenders A B C A B C ..., so that a noisy spell hits all alike, and collect their seconds.

    Each contender returns the seconds that it took by its own clock. With `warm_up`, a round that is not
    counted comes first. `tick` is called after every call.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    with without_collector() as collect:
        for round_number in range(-1 if warm_up else 0, repeats):
            for name, contender in contenders.items():
                taken = contender()
                if round_number >= 0:
                    seconds[name].append(taken)
                collect()
                tick()
    return {name: Times(tuple(each)) for name, each in seconds.items()}
