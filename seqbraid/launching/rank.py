"""The first program of every rank: takes the rank's cores, then runs the rank's command and watches it.

What the rank starts later (threads of any library, decoder processes) inherits the cores from it.

    mpiexec -n 2 python -m seqbraid.launching.rank --pin 4 -- python script.py
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence

from seqbraid.announced import RANKS, local_place
from seqbraid.launching.child import die_with_parent
from seqbraid.launching.cores import cores_of_ranks, describe_cores, size, usable_cores
from seqbraid.launching.watch import CARRIED_SIGNALS, watch

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Become the command after `--`; exits with code 2 where the launcher did not connect the ranks."""
    parser = argparse.ArgumentParser(prog="python -m seqbraid.launching.rank", description=__doc__)
    parser.add_argument("--pin", type=int, metavar="THREADS", help="take so many cores of this machine")
    parser.add_argument("--tell", action="store_true", help="say which cores the ranks of this machine take")
    parser.add_argument("--tied", action="store_true", help="end when the launcher is gone")
    parser.add_argument(
        "--carried", action="store_true", help="signals stand for others, as launch sent them"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not any(name in os.environ for name in RANKS):
        # Open MPI under an srun without PMIx does this: every process would take itself for the whole job.
        if os.environ.get("SLURM_PROCID", "0") == "0":
            _note(
                "error: the launcher did not tell the processes their ranks, so each would run alone; "
                "with srun, SLURM_MPI_TYPE (or --mpi) must fit the MPI library, or take --launcher mpiexec"
            )
        sys.exit(2)
    if options.tied:
        die_with_parent()
    if options.pin is not None:
        _pin(options.pin, options.tell)
    if options.carried:
        os.environ[CARRIED_SIGNALS] = "1"
    watch()
    os.execvp(command[0], command)


def _pin(threads: int, tell: bool) -> None:
    local_rank, local_size = local_place()
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
            _note(
                f"warning: {host}: {size(local_size, threads)} outnumber its {available} cores "
                "and are not pinned"
            )
        else:
            _note(f"{host}: cores of local {describe_cores(layout)}")


def _note(text: str) -> None:
    print(f"seqbraid launch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
