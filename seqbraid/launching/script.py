"""Runs a user's script, as `python -m mpi4py` does, and names the rank whose error ends the job.

mpiexec -n 2 python -m seqbraid.launching.script script.py ARGUMENTS...
"""

from __future__ import annotations

import faulthandler
import sys
import traceback
from types import TracebackType

from mpi4py import run

from seqbraid.announced import launched_rank, launched_ranks
from seqbraid.launching.watch import watch

__all__ = ["main"]


def main() -> None:
    """Run the script, `-m MODULE` or `-c TEXT` of the command line."""
    sys.argv[0] = "mpi4py"
    if launched_ranks() > 1:
        faulthandler.enable(watch() or 2)  # standard error
        sys.excepthook = _name_rank
    run.main()


def _name_rank(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(f"rank {launched_rank()}: {text}")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
