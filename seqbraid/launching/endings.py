"""How a job ends that cannot go on: one line that says why, an exit code, and no rank left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from seqbraid.announced import launched_rank, launched_ranks
from seqbraid.launching.heard import wait_until_heard
from seqbraid.messages.rank_warnings import (
    gather_warnings,
    name_ranks,
    say_held_warnings,
    take_held_warnings,
)

__all__ = [
    "end_job",
    "end_job_from_thread",
    "gather_warnings_at_end",
    "running_mpi",
]

# So long a rank waits for the others to meet an error too, before it ends the job alone.
_AGREEMENT_S = 2.0
_FINALIZE_S = 5.0


def gather_warnings_at_end() -> None:
    """Gather the warnings of ranks that have worked together; collective, where MPI was started."""
    if running_mpi() is not None:
        from seqbraid.comm import world

        gather_warnings(world())


def end_job(command: str, text: str, code: int, consequence: bool = False) -> int:
    """Print `text` once for the whole job, see to it that every rank ends, and return the exit code.

    Where every rank meets an error (bad options, missing data), rank 0 prints it and all end in peace. An
    error of one rank alone is printed with its rank and ends the others, which may be waiting for it. An
    error that is a `consequence` of another rank's is printed after that one's.
    """
    line = f"{command}: {text}"
    if launched_ranks() > 1 and threading.current_thread() is threading.main_thread():
        # Impatience must not interrupt what brings the end about, and takes a few seconds at most.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    mpi = running_mpi()
    rank = launched_rank()
    if mpi is None:
        # No rank can reach another. If rank 0 meets the same error, its end is the end of this one too.
        if rank != 0:
            time.sleep(_AGREEMENT_S)
        _print_of_rank(line, alone=rank != 0)
        return code
    communicator, met = mpi.COMM_WORLD, time.time()
    if not _all_ranks_end(communicator):
        _print_of_rank(line, alone=True)
        wait_until_heard(2)  # standard error
        communicator.Abort(code)
    warnings = communicator.allgather(take_held_warnings())
    ends = communicator.allgather((consequence, met, line))
    # Left to itself, mpi4py finalizes at exit, where messages that nobody receives could hold it up for ever.
    watchdog = threading.Timer(_FINALIZE_S, os._exit, [code])
    watchdog.daemon = True
    watchdog.start()
    if rank == 0:
        say_held_warnings(dict(enumerate(warnings)))
        _print_ends(ends)
    communicator.Barrier()  # the launcher may end the job with the first rank that leaves
    mpi.Finalize()
    watchdog.cancel()
    return code


def end_job_from_thread(command: str, text: str, code: int) -> None:
    """Print `text` and end the job at once, for an error that a thread let through."""
    _print_of_rank(f"{command}: {text}", alone=launched_ranks() > 1)
    # The main thread may be anywhere, in MPI too; a launcher ends the job of a rank that leaves it like this.
    os._exit(code)


def running_mpi() -> Any:
    """Return mpi4py's `MPI` where it connects the ranks of this job already, else None."""
    if "mpi4py.MPI" not in sys.modules:
        return None
    from seqbraid.comm import started_mpi  # takes torch to import, which a job with MPI has done

    return started_mpi()


def _all_ranks_end(comm: Any) -> bool:
    """Return whether every rank comes here within the time of an agreement."""
    everyone, start = comm.Ibarrier(), time.monotonic()
    while not everyone.Test():
        if time.monotonic() - start > _AGREEMENT_S:
            return False
        time.sleep(0.01)
    return True


def _print_ends(ends: Sequence[tuple[bool, float, str]]) -> None:
    """Say the ranks' errors in the order in which they came, consequences last; one of all without rank."""
    ranks: dict[str, list[int]] = {}
    for rank in sorted(range(len(ends)), key=lambda rank: ends[rank][:2]):
        ranks.setdefault(ends[rank][2], []).append(rank)
    for line, of_ranks in ranks.items():
        _print_line(line if len(ranks) == 1 else f"{name_ranks(sorted(of_ranks))}{line}")


def _print_of_rank(line: str, alone: bool) -> None:
    """Say a line of one rank, behind the warnings that nobody has heard yet."""
    rank = launched_rank()
    say_held_warnings({rank: take_held_warnings()})
    _print_line(f"{name_ranks([rank])}{line}" if alone else line)


def _print_line(line: str) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
