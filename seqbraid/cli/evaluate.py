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
from pathlib import Path

from seqbraid.cli.arguments import (
    add_grid_arguments,
    add_sequence_arguments,
    add_solver_arguments,
    add_threads_argument,
    whole,
)
from seqbraid.cli.solvers import solver_from_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure a trained run on a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid evaluate`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of seqbraid train")
    parser.add_argument("data", type=Path, metavar="DATA", help="feature store, .npz file or folder of .npy")
    parser.add_argument(
        "--which",
        choices=("last", "best"),
        default="last",
        help="weights of the last epoch, or of the best by the validation part, else by the test part "
        "(default: last)",
    )
    parser.add_argument(
        "--part", choices=("train", "test"), default="test", help="part of DATA to measure (default: test)"
    )
    parser.add_argument(
        "--batch-size",
        type=whole(1, 10**9),
        default=100,
        metavar="B",
        help="sequences at a time (default: 100)",
    )
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="measure twice, with the serial solver and with MGRIT",
    )
    parser.add_argument("--classes", action="store_true", help="show each class by itself")
    add_sequence_arguments(parser, of_a_run=True)
    add_solver_arguments(parser, of_a_run=True)
    add_grid_arguments(parser)
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print loss and accuracy."""
    from seqbraid.cli.inference import both_inferences, table_of_classes, table_of_inferences
    from seqbraid.cli.runs import load_run, open_for_run, padding_of_run
    from seqbraid.cli.slices import grid_from_options, take_slice
    from seqbraid.comm import world
    from seqbraid.data.padding import pad_part, padded_steps
    from seqbraid.errors import DataError, OptionsError
    from seqbraid.options import MGRIT, solver_from_dict
    from seqbraid.threads import set_threads
    from seqbraid.train import Batches, RunFolder, evaluate

    communicator = world()
    set_threads(options.threads)
    grid = grid_from_options(options, communicator)
    trained = RunFolder(options.run_folder).options()
    dataset = open_for_run(options.run_folder, trained, options.data, options.split)
    padding, trained_steps = padding_of_run(options.run_folder, trained)
    padding = options.pad or padding
    steps = padded_steps(dataset, padding)
    if padding != "lengths" and trained_steps not in (None, steps):
        raise DataError(
            f"{options.data} has room for {steps} steps, but {options.run_folder} was trained on sequences "
            f"padded to {trained_steps}; give data with room for {trained_steps}, or take --pad lengths"
        )
    if options.side_by_side:
        if options.solver == "serial":
            raise OptionsError("--side-by-side measures with MGRIT too; leave --solver serial out")
        options.solver = "mgrit"
    solver = solver_from_options(options, solver_from_dict(trained["solver"]))
    held = take_slice(steps, solver, grid)
    model, standardise = load_run(options.run_folder, options.which, solver, grid)
    part = dataset.train if options.part == "train" else dataset.test
    part = pad_part(part, steps, padding, standardise.mean.numpy())
    batches = Batches(part, held, standardise, options.batch_size, grid)
    if options.side_by_side and isinstance(solver, MGRIT):
        found = both_inferences(model, batches, solver)
        text, result = f"{options.part}: {len(part)} sequences\n{table_of_inferences(found)}", found["mgrit"]
    else:
        result = evaluate(model, batches)
        top5 = "" if result.top5 is None else f"  top-5 {result.top5:.4f}"
        residual = f"  residual {result.residual:.1e}" if isinstance(solver, MGRIT) else ""
        text = (
            f"{options.part}: accuracy {result.accuracy:.4f}  loss {result.loss:.4f}{top5}  "
            f"{len(part)} sequences  {result.seconds:.1f} s{residual}"
        )
    if communicator.rank == 0:
        print(text, flush=True)
        if options.classes:
            print(f"class by class, {'mgrit' if isinstance(solver, MGRIT) else 'serial'} inference:")
            print(table_of_classes(result, dataset.class_names), flush=True)
