"""Start a command on several ranks, each with its own threads and cores.

COMMAND is one of seqbraid's (train, preprocess, evaluate, ...) or a Python script of yours (`script.py ...`
or `python script.py ...`, run with `-m mpi4py` so that a rank that fails ends the job). launch takes the
mpiexec of the MPI library that mpi4py loads, or srun inside a Slurm allocation; tells every rank's libraries
how many threads to use (OpenMP, MKL, OpenBLAS, Numba, PyTorch); gives every rank cores of its own among those
that this process may use; says what it does, and ends with the exit code of the job. The ranks
get its SIGTERM, SIGINT (ctrl-C) and SIGUSR1, and a minute to end after the first two; a second ctrl-C kills
them.

With --hosts, ranks run on other machines over ssh, where this folder, the data and the Python environment
must be under the same paths (a shared disk). Slurm pins the ranks of its jobs itself.

example:
  seqbraid launch -n 2 -- info
  seqbraid launch -n 4 --threads 2 -- train features/ --solver mgrit --coarsening 4 --output run/
  seqbraid launch -n 4 --threads 2 --dry-run -- train features/ --output run/    # only show it
  seqbraid launch -n 8 --hosts node1,node2 --threads 4 -- preprocess videos/ features/
  seqbraid launch -n 2 -- script.py --my-option
  taskset -c 0-3 seqbraid launch -n 2 -- verify                                  # on these cores
"""

from __future__ import annotations

import argparse
import shlex
import sys

from seqbraid.cli.arguments import add_options, whole
from seqbraid.cli.flags import in_flags
from seqbraid.options import ThreadOptions, options_of

__all__ = ["HELP", "add_arguments", "run"]

HELP = "start a command on several ranks, with threads and cores for each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid launch`."""
    parser.add_argument(
        "-n", type=whole(1, 10**6), required=True, metavar="RANKS", dest="ranks", help="number of ranks"
    )
    [threads] = options_of(ThreadOptions)
    shared = "OMP_NUM_THREADS, else the cores shared by the ranks"
    add_options(parser, [threads.but(help="threads of each rank", unset=shared)])
    parser.add_argument(
        "--hosts",
        metavar="A,B",
        help="machines to run on, as a,b (ranks divided equally) or a:4,b:2 (so many ranks each)",
    )
    parser.add_argument(
        "--launcher",
        metavar="WHICH",
        help="mpiexec, srun, or the path of one (default: srun inside a Slurm allocation, else the mpiexec "
        "that belongs to mpi4py's library)",
    )
    parser.add_argument(
        "--no-pin",
        dest="pin",
        action="store_false",
        help="let ranks run on any core, as several jobs on one machine at once must",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the layout, print the command line, and start nothing"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what every rank runs")


def run(options: argparse.Namespace) -> None:
    """Show the layout and start the job."""
    from seqbraid.launching.planning import plan_job, start

    plan = plan_job(
        options.words, options.ranks, options.threads, options.hosts, options.launcher, options.pin
    )
    for note in plan.notes:
        print(f"seqbraid launch: {in_flags(note, options.parser)}", file=sys.stderr, flush=True)
    if options.dry_run:
        settings = [f"{name}={value}" for name, value in plan.variables.items()]
        print(*settings, shlex.join(plan.words))
    else:
        start(plan)
