"""Draw how a training went: learning curves, residuals, where the time went, and who was taken for whom.

RUN is a run folder of `seqbraid train`, of a training that is done or that still goes on. The picture has

  loss and accuracy    train, test and validation part by epoch; the best epoch is marked, and epochs on
                       coarsened sequences (nested iteration) are shaded
  residuals            the largest of an epoch's forward and backward solves and of its test, relative to
                       the states; epochs with diverged solves are marked (with MGRIT alone)
  seconds an epoch     relaxation, coarse solve, communication, data and the rest, means over the ranks, and
                       the test on top
  confusion matrix     of the test part, from the evaluation at the end of the training

as far as the run has them. It is written into the run folder unless --output says otherwise; the ending of
its name (.png, .pdf, .svg) tells the format. It needs matplotlib. Under mpiexec, rank 0 draws.

example:
  seqbraid plot run/
  seqbraid plot run/ --output run.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["HELP", "add_arguments", "run"]

HELP = "how a training went: learning curves, residuals, time, confusion matrix"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid plot run`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of seqbraid train")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the picture (default: RUN/run.png)")


def run(options: argparse.Namespace) -> None:
    """Print what the run is, and draw the picture."""
    from seqbraid.errors import DataError
    from seqbraid.plots.curves import draw_run, title_of_run
    from seqbraid.plots.figure import require_plot
    from seqbraid.runs.record import read_run

    record = read_run(options.run_folder)
    output = options.output or options.run_folder / "run.png"
    require_plot(output, "output")
    if not record.epochs:
        raise DataError(
            f"{options.run_folder} has no epoch to draw yet; metrics.jsonl gets a line after each"
        )
    title = title_of_run(record)
    draw_run(record, title, output)
    print(f"{title}\n{output} written")
