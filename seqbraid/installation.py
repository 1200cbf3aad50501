"""What this installation uses: versions, MPI, ranks, threads, cores and kernels."""

from __future__ import annotations

import os
import platform
import socket
from collections import Counter
from importlib import metadata
from typing import Any

import torch

from seqbraid.comm import Communicator
from seqbraid.kernels import active, why_plain
from seqbraid.launching.cores import affinity, ranges
from seqbraid.text import count
from seqbraid.version import __version__

__all__ = ["Place", "describe_installation", "describe_pinning"]

# Of one rank: the machine, its threads, and the numbers of the cores it may run on.
Place = tuple[str, int, list[int]]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe_installation(communicator: Communicator, threads: int) -> list[tuple[str, str]]:
    """Return names and values, the same on every rank; collective. `threads` are those of this rank."""
    places: list[Place] = communicator.all_gather_objects((socket.gethostname(), threads, affinity()), "info")
    hosts = [host for host, _, _ in places]
    layout = ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    opencv = _version("opencv-python-headless")
    return [
        ("seqbraid", __version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("torch", torch.__version__),
        ("torchvision", _version("torchvision")),
        ("opencv", _version("opencv-python") if opencv == "not installed" else opencv),
        ("mpi4py", _version("mpi4py")),
        ("MPI", _mpi_library()),
        ("ranks", f"{len(places)} ({layout})"),
        ("threads a rank", ", ".join(sorted({str(threads) for _, threads, _ in places}))),
        *describe_pinning(places),
        ("CUDA device", cuda),
        *((f"kernels, {dtype}", _kernels(getattr(torch, dtype))) for dtype in ("float32", "float64")),
    ]


def describe_pinning(places: list[Place]) -> list[tuple[str, str]]:
    """Return which cores the ranks at these places may run on."""
    taken = Counter((host, core) for host, _, cores in places for core in cores)
    used = Counter(host for host, _ in taken)
    rows = [("cores", ", ".join(f"{number} on {host}" for host, number in used.items()))]
    if len(places) == 1:
        [(_, _, cores)] = places
        pinned = len(cores) != os.cpu_count()
        return [*rows, ("pinning", f"to {_named(cores)}" if pinned else "none")]
    disjoint = max(taken.values()) == 1
    rows.append(("pinning", "each rank has cores of its own" if disjoint else "none: ranks share cores"))
    for rank, (host, threads, cores) in enumerate(places):
        rows.append((f"rank {rank}", f"{host}, {count(threads, 'thread')}, {_named(cores)}"))
    return rows


def _named(cores: list[int]) -> str:
    return f"core{'' if len(cores) == 1 else 's'} {ranges(cores)}"


def _kernels(dtype: Any) -> str:
    if active("cpu", dtype) == "fused":
        return f"fused on the CPU, compiled by Numba {_version('numba')}"
    return f"plain, in PyTorch's own operations: {why_plain('cpu', dtype)}"


def _mpi_library() -> str:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return "no library found; pip install 'seqbraid[mpich]' brings one"
    return str(MPI.Get_library_version()).split(",")[0].splitlines()[0].strip()
