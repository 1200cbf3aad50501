"""The first program of every rank: takes the rank's cores, then becomes the rank's command.

What the rank starts later (threads of any library, decoder processes) inherits the cores from it.

    mpiexec -n 2 python -m seqbraid.launching.rank --pin 4 -- python script.py
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import signal
import sys
from collections.abc import Sequence

from seqbraid.launching.cores import cores_of_ranks, describe_cores, size, usable_cores

__all__ = ["main"]

# seqbraid.comm knows these too, but takes torch to import.
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the command after `--`; exits with code 2 where the launcher did not connect the ranks."""
    parser = argparse.ArgumentParser(prog="python -m seqbraid.launching.rank", description=__doc__)
    parser.add_argument("--pin", type=int, metavar="THREADS", help="take so many cores of this machine")
    parser.add_argument("--tell", action="store_true", help="say which cores the ranks of this machine take")
    parser.add_argument("--tied", action="store_true", help="end when the launcher is gone")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not any(name in os.environ for name in _RANKS):
        # Open MPI under an srun without PMIx does this: every process would take itself for the whole job.
        if os.environ.get("SLURM_PROCID", "0") == "0":
            _say(
                "error: the launcher did not tell the processes their ranks, so each would run alone; "
                "with srun, SLURM_MPI_TYPE (or --mpi) must fit the MPI library, or take --launcher mpiexec"
            )
        sys.exit(2)
    if options.tied and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if options.pin is not None:
        _pin(options.pin, options.tell)
    os.execvp(command[0], command)


def _pin(threads: int, tell: bool) -> None:
    local_rank, local_size = (
        next((int(os.environ[name]) for name in names if name in os.environ), None)
        for names in (_LOCAL_RANKS, _LOCAL_SIZES)
    )
    if local_rank is None or local_size is None or local_rank >= local_size:
        return
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = usable_cores()
    layout = cores_of_ranks(cores, local_size, threads)
    if layout is not None:
        os.sched_setaffinity(0, layout[local_rank])
    if tell and local_rank == 0:
        host = platform.node()
        if layout is None:
            available = sum(map(len, cores))
            _say(
                f"warning: {host}: {size(local_size, threads)} outnumber its {available} cores "
                "and are not pinned"
            )
        else:
            _say(f"{host}: cores of local {describe_cores(layout)}")


def _say(text: str) -> None:
    print(f"seqbraid launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
