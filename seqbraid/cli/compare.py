"""Compare runs: what differs between their options, and how well and how fast each of them learns.

RUN is a run folder of `seqbraid train`, of a training that is done or that still goes on. The table tells

  the options that differ       what a run of an older version does not name is as it is by default; a solver
                                reads as in `mgrit c=4 FCF 2+1`: coarsening, relaxation, iterations each way
  test accuracy, loss, top 5    after the last epoch; of the accuracy the best too, as in best.pt: that of the
                                epoch with the highest accuracy on the validation part, else on the test part
  work, seconds an epoch        passes over the full training part; the median of the training alone
  residuals, diverged solves    of the last epoch; in all
  time                          what the seconds of the training went into
  inference                     accuracy of the same weights with MGRIT and serially, where both were measured

Runs that differ in the seed alone are summed up too: mean and spread of the test accuracy after the last
epoch. Under mpiexec, rank 0 compares.

example:
  seqbraid compare run-serial/ run-mgrit/
  seqbraid compare runs/*/ --output runs.csv
  seqbraid compare run-full/ run-nested/ --plot curves.png --against work
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqbraid.runs.record import RunRecord

__all__ = ["HELP", "add_arguments", "run"]

HELP = "compare runs: options, accuracy, time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid compare`."""
    parser.add_argument(
        "run_folders", type=Path, nargs="+", metavar="RUN", help="run folder of seqbraid train"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.csv", help="write all options and results, a line a run"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw test accuracy and training loss; needs matplotlib"
    )
    parser.add_argument(
        "--against",
        choices=("epochs", "work", "seconds"),
        help="what --plot draws them over; seconds are those of the training alone (default: epochs)",
    )


def run(options: argparse.Namespace) -> None:
    """Print the tables, on rank 0 alone."""
    from seqbraid.comm import launched_rank

    # By the launcher's word: the other ranks leave, and no MPI is started that would hold them.
    if launched_rank() == 0:
        _compare(options)


def _compare(options: argparse.Namespace) -> None:
    from seqbraid.errors import OptionsError
    from seqbraid.files import require_place, write_text
    from seqbraid.plots.comparison import draw_comparison
    from seqbraid.plots.figure import require_plot
    from seqbraid.runs.report import csv_of_runs, report_of_runs
    from seqbraid.text import distinct_names

    if options.output is not None:
        require_place(options.output, "output")
        if options.output.suffix.lower() != ".csv":
            raise OptionsError(
                f"--output {options.output}: the table is written as CSV; name a file that ends in .csv, "
                "or say --plot for a picture"
            )
    if options.plot is not None:
        require_plot(options.plot)
    elif options.against is not None:
        raise OptionsError(f"--against {options.against} is for --plot; add that, or leave it out")
    records = _records(options.run_folders)
    print(report_of_runs(records))
    if options.output is not None:
        write_text(options.output, csv_of_runs(records))
        print(f"{options.output} written")
    if options.plot is not None:
        names = distinct_names([record.folder for record in records], 40)
        draw_comparison(records, names, options.against or "epochs", options.plot)
        print(f"{options.plot} written")


def _records(folders: list[Path]) -> list[RunRecord]:
    """Read every run once; those without an epoch yet are left out, with a line that says so."""
    import warnings

    from seqbraid.errors import DataError
    from seqbraid.runs.record import read_run

    records = [read_run(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    started = [record for record in records if record.epochs]
    if not started:
        raise DataError(
            f"{records[0].folder} has no epoch to compare yet; metrics.jsonl gets a line after each"
        )
    for record in records:
        if not record.epochs:
            warnings.warn(f"{record.folder} has no epoch yet, and is left out", stacklevel=1)
    return started
