"""Measure a trained run on the test part of a data set.

Solver, split and padding are those of the training unless options say otherwise; it may run on any number
of ranks. --side-by-side shows what serial and parallel inference make of the same weights, --classes how each
class fares.

example, after `seqbraid train features/ --output run/`:
  seqbraid evaluate run/ features/
  mpiexec -n 4 seqbraid evaluate run/ features/ --solver mgrit --coarsening 8
  mpiexec -n 4 seqbraid evaluate run/ features/ --side-by-side --classes
"""

from __future__ import annotations

import argparse
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_options
from seqbraid.options import (
    RankOptions,
    RunOptions,
    ThreadOptions,
    TrainedOptions,
    TrainingOptions,
    options_of,
)
from seqbraid.options.commands import sequence_options_of_a_run, solver_options_of_a_run

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a trained run on a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid evaluate`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of seqbraid train")
    [data], [batch] = options_of(RunOptions, "data"), options_of(TrainingOptions, "batch_size")
    add_options(parser, [data.but(default=MISSING), *options_of(TrainedOptions, "which")])
    parser.add_argument(
        "--part", choices=("train", "test"), default="test", help="part of DATA to measure (default: test)"
    )
    add_options(parser, [batch.but(help="sequences at a time", group=None)])
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="measure twice, with the serial solver and with MGRIT",
    )
    parser.add_argument("--classes", action="store_true", help="show each class by itself")
    add_options(
        parser,
        [
            *options_of(ThreadOptions),
            *sequence_options_of_a_run(),
            *solver_options_of_a_run(),
            *options_of(RankOptions),
        ],
    )


def run(options: argparse.Namespace) -> None:
    """Print loss and accuracy."""
    from seqbraid.comm import world
    from seqbraid.errors import OptionsError
    from seqbraid.options import MGRIT
    from seqbraid.rnn.choosing import solver_as_asked
    from seqbraid.threads import set_threads
    from seqbraid.train import load_run
    from seqbraid.train.slices import grid_of_ranks
    from seqbraid.train.tables import line_of_evaluation, table_of_classes, table_of_inferences

    communicator = world()
    set_threads(options.threads)
    grid = grid_of_ranks(communicator, options.sequence_ranks, options.data_ranks)
    trained = load_run(options.run_folder, options.which)
    if options.side_by_side:
        if options.solver == "serial":
            raise OptionsError("--side-by-side measures with MGRIT too; leave --solver serial out")
        options.solver = "mgrit"
    solver = solver_as_asked(vars(options), trained.solver)
    name = "mgrit" if isinstance(solver, MGRIT) else "serial"
    how: dict[str, Any] = {each: getattr(options, each) for each in ("part", "split", "pad", "batch_size")}
    if options.side_by_side and isinstance(solver, MGRIT):
        found = trained.evaluate_both_ways(options.data, solver=solver, comm=grid, **how)
        result = found["mgrit"]
        text = f"{options.part}: {result.sequences} sequences\n{table_of_inferences(found)}"
    else:
        result = trained.evaluate(options.data, solver=solver, comm=grid, **how)
        text = f"{options.part}: {line_of_evaluation(result, name)}"
    if communicator.rank == 0:
        print(text, flush=True)
        if options.classes:
            print(f"class by class, {name} inference:")
            print(table_of_classes(result, trained.class_names), flush=True)
