"""Train a sequence classifier with the sequence split over MPI ranks.

DATA is a feature store made by `seqbraid preprocess`, or an .npz file with x_train (N, T, I), y_train,
x_test and y_test, optionally length_train, length_test and label (class names), or a folder of such .npy
files, of which a rank reads its own steps alone. Features are standardised
with mean and deviation of the training part. The classifier is a GRU with a linear head on the state at
each sequence's true end, trained with cross entropy. With --pad zeros or repeat-last, sequences
are first filled up to the steps that DATA has room for, and the head sees the state after the last of
them, as Moon & Cyr do it.

The run folder gets options.json, config.toml (every option; --config takes it), metrics.jsonl (a line an
epoch), evaluation.json (confusion matrix), last.pt and best.pt (weights of the last epoch, and of the one
with the highest accuracy), and checkpoints/. A run that was killed, or stopped by SIGTERM or SIGUSR1 (which
save a checkpoint first, end with exit code 0, and leave a file RUN/stopped), goes on with --resume: on the
same number of ranks to the same weights, bit for bit, as an undisturbed one.

example, after `seqbraid preprocess videos/ features/`:
  seqbraid train features/ --output run/
  seqbraid train --output run/ --resume --epochs 20
  mpiexec -n 4 seqbraid train features/ --cell implicit --solver mgrit --coarsening 4 \\
      --hidden-size 100 --num-layers 2 --epochs 6 --output run-mgrit/
  mpiexec -n 4 seqbraid train features/ --sequence-ranks 2 --data-ranks 2 --batch-size 400 \\
      --lr-scaling linear --warmup-epochs 1 --output run-grid/
  seqbraid train features51/ --split 2 --pad zeros --output run-split2/
  seqbraid plot run/
"""

from __future__ import annotations

import argparse
import shlex

from seqbraid.cli.arguments import add_options
from seqbraid.cli.config import require
from seqbraid.errors import OptionsError
from seqbraid.options.commands import OF_A_FIT, OF_A_TRAINING

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train a classifier with the sequence split over ranks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid train`."""
    add_options(parser, OF_A_TRAINING)


def run(options: argparse.Namespace) -> None:
    """Train and leave a run folder; rank 0 reports."""
    from seqbraid.comm import world
    from seqbraid.train import RunFolder, fit

    nothing_given = options.data is None and options.output is not None
    if options.resume and nothing_given and not RunFolder(options.output).holds_a_run:
        raise OptionsError(f"{options.output} holds no run to --resume; give DATA too, to begin one there")
    require(options.parser, options, "data", "output")
    communicator = world()
    trained = fit(
        options.data,
        {each.name: getattr(options, each.dest) for each in OF_A_FIT},
        output=options.output,
        resume=options.resume,
        overwrite=options.overwrite,
        comm=communicator,
    )
    if trained.stopped_by is not None and communicator.rank == 0:
        print(f"seqbraid train --output {shlex.quote(str(options.output))} --resume goes on", flush=True)
