"""Which cores each rank of one machine runs on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seqbraid.text import count

__all__ = ["Core", "affinity", "cores_of_ranks", "describe_cores", "ranges", "size", "usable_cores"]

# A physical core: the numbers of those of its hardware threads that this process may run on.
Core = tuple[int, ...]

_CPUS = Path("/sys/devices/system/cpu")
_SHOWN = 8


def affinity() -> list[int]:
    """Return the numbers of the hardware threads that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores(cpus: Path = _CPUS) -> list[Core]:
    """Return the physical cores that this process may run on, those of one socket beside one another.

    Only what the affinity mask holds is taken (of a cpuset, `taskset`, Slurm). Where the system does not tell
    which hardware threads belong together, each counts as a core.
    """
    mask = affinity()
    cores: dict[Core, tuple[int, ...]] = {}
    for number in mask:
        topology = cpus / f"cpu{number}" / "topology"
        siblings = set(_numbers(_read(topology / "thread_siblings_list"))) & set(mask)
        core = tuple(sorted(siblings | {number}))
        cores[core] = tuple(int(_read(topology / name) or 0) for name in ("physical_package_id", "die_id"))
    return sorted(cores, key=lambda core: (cores[core], core))


def cores_of_ranks(cores: Sequence[Core], ranks: int, threads: int) -> list[list[int]] | None:
    """Return `threads` hardware threads for each of `ranks` ranks, disjoint; None where there are too few.

    Every thread gets a physical core as long as there are enough of them. The ranks are spread evenly over
    the machine, so that two ranks on two sockets have the memory bandwidth of both.
    """
    places = [core[0] for core in cores]
    if ranks * threads > len(places):
        places = [number for core in cores for number in core]
    if ranks * threads > len(places):
        return None
    apart = len(places) // ranks
    return [places[rank * apart : rank * apart + threads] for rank in range(ranks)]


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as the kernel writes them: `0-3,8`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def describe_cores(layout: Sequence[Sequence[int]]) -> str:
    """Return in one line which rank of a machine has which cores; of many, the first and the last ranks."""
    texts = [f"rank {rank}: {ranges(numbers)}" for rank, numbers in enumerate(layout)]
    if len(texts) > _SHOWN:
        texts[_SHOWN - 1 : -1] = ["..."]
    return "; ".join(texts)


def size(ranks: int, threads: int) -> str:
    """Return the size of a job as it is shown: `2 ranks x 1 thread`."""
    return f"{count(ranks, 'rank')} x {count(threads, 'thread')}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _numbers(text: str) -> list[int]:
    """Return the numbers in `0-3,8`."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
