"""How a command ends that cannot go on: one line that says why, an exit code, and no rank left behind."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from seqbraid.comm import launched_rank, speaks_for_this_machine, started_mpi
from seqbraid.errors import SeqbraidError
from seqbraid.mgrit import SolverDivergedError

__all__ = ["end_job", "explain", "warnings_in_one_line"]

# So long a rank waits for the others to meet an error too, before it ends the job alone.
_AGREEMENT_S = 2.0
_FINALIZE_S = 5.0

_REMEDIES = {
    errno.ENOSPC: "make room there, then run the command again",
    errno.EDQUOT: "make room there, then run the command again",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EROFS: "choose another place",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.EISDIR: "name a file, not a folder",
}


def explain(error: BaseException) -> tuple[str, int]:
    """Return one line for a person (a traceback where the defect is ours), and the exit code."""
    if isinstance(error, SeqbraidError):
        return f"error: {error}", error.exit_code
    if isinstance(error, SolverDivergedError):
        # Its own remedies are spelled as arguments of sb.MGRIT.
        what = str(error).partition("; take ")[0]
        return f"error: {what}; try --coarse frozen, a smaller --coarsening, or --on-divergence serial", 3
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"error: {place}{error.strerror or error}{'; ' + remedy if remedy else ''}", 1
    # torch tells of it by a RuntimeError with this text alone.
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "error: out of memory; a smaller --batch-size, fewer features or more ranks need less", 1
    return "".join(traceback.format_exception(error)).rstrip(), 1


def end_job(command: str, text: str, code: int) -> int:
    """Print `text` once for the whole job, see to it that every rank ends, and return the exit code.

    Where every rank meets an error (bad options, missing data), rank 0 prints it and all end in peace. An
    error of one rank alone is printed with its rank and ends the others, which may be waiting for it.
    """
    line = f"{command}: {text}"
    mpi = started_mpi()
    if mpi is None:
        # No rank can reach another. What fails before MPI starts fails alike on all ranks of a machine.
        if speaks_for_this_machine():
            _say(line)
        return code
    rank = mpi.COMM_WORLD.Get_rank()
    if not _all_ranks_end(mpi.COMM_WORLD):
        _say(line if rank == 0 else f"rank {rank}: {line}")
        mpi.COMM_WORLD.Abort(code)
    lines: list[str] = mpi.COMM_WORLD.allgather(line)
    if rank == 0:
        for other, text in enumerate(lines):
            if text not in lines[:other]:
                _say(text if other == 0 else f"rank {other}: {text}")
    # Left to itself, mpi4py finalizes at exit, where messages that nobody receives could hold it up for ever.
    watchdog = threading.Timer(_FINALIZE_S, os._exit, [code])
    watchdog.daemon = True
    watchdog.start()
    mpi.Finalize()
    watchdog.cancel()
    return code


def _all_ranks_end(comm: Any) -> bool:
    """Return whether every rank comes here within the time of an agreement."""
    everyone, start = comm.Ibarrier(), time.monotonic()
    while not everyone.Test():
        if time.monotonic() - start > _AGREEMENT_S:
            return False
        time.sleep(0.01)
    return True


def _say(line: str) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)


@contextmanager
def warnings_in_one_line(command: str) -> Iterator[None]:
    """Print warnings as one line each, from rank 0 alone; of those that recur, the first and their number."""
    counts: Counter[type[Warning]] = Counter()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        counts[category] += 1
        if counts[category] == 1 and launched_rank() == 0:
            # Through tqdm, which clears its bar away for the line and draws it again.
            tqdm.write(f"{command}: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        finally:
            for category, count in counts.items():
                if count > 1 and launched_rank() == 0:
                    _say(f"{command}: warning: {count - 1} more of the kind {category.__name__}")
