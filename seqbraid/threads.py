"""How many OpenMP threads a rank uses."""

from __future__ import annotations

import os

import torch

from seqbraid.comm import ranks_on_this_machine
from seqbraid.errors import OptionsError

__all__ = ["available_cores", "set_threads"]


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Set PyTorch's threads and return their number.

    None takes OMP_NUM_THREADS, else an equal share of the cores for each rank on this machine: threads that
    outnumber the cores wait for one another and slow everything down.
    """
    if threads is None:
        text = os.environ.get("OMP_NUM_THREADS", "")
        if text.isdigit() and int(text) > 0:
            threads = int(text)
        else:
            threads = max(1, available_cores() // ranks_on_this_machine())
    if threads < 1:
        raise OptionsError(f"threads is {threads}; expected at least 1")
    torch.set_num_threads(threads)
    return threads
