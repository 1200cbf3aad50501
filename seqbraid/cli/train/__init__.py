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
import itertools
import shlex
from typing import TYPE_CHECKING, Any

from seqbraid.cli.arguments import add_options
from seqbraid.cli.config import require
from seqbraid.errors import OptionsError
from seqbraid.options.commands import OF_A_TRAINING

if TYPE_CHECKING:
    from seqbraid.train import Interruption

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train a classifier with the sequence split over ranks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid train`."""
    add_options(parser, OF_A_TRAINING)


def run(options: argparse.Namespace) -> None:
    """Train and leave a run folder; rank 0 reports."""
    from seqbraid.train import Interruption, RunFolder

    nothing_given = options.data is None and options.output is not None
    if options.resume and nothing_given and not RunFolder(options.output).holds_a_run:
        raise OptionsError(f"{options.output} holds no run to --resume; give DATA too, to begin one there")
    require(options.parser, options, "data", "output")
    # From here on, signals are acted upon after the next update.
    with Interruption() as interruption:
        _run(options, interruption)


def _run(options: argparse.Namespace, interruption: Interruption) -> None:
    from seqbraid.cli.train.reporting import line_of_epoch
    from seqbraid.cli.train.results import Results
    from seqbraid.cli.train.setup import Setup
    from seqbraid.cli.train.starting import begin, open_data, resumes
    from seqbraid.comm import on_rank_zero, world
    from seqbraid.messages import gather_warnings
    from seqbraid.mgrit import MGRIT
    from seqbraid.train import Batches, Evaluation, RunFolder, Trainer
    from seqbraid.train.inference import both_inferences
    from seqbraid.train.tables import table_of_inferences

    communicator = world()
    folder = RunFolder(options.output)
    resumed = resumes(options, folder, communicator)
    setup = Setup.of(options, open_data(options, folder, resumed), communicator)

    def say(text: str) -> None:
        if communicator.rank == 0:
            print(text, flush=True)

    changes = begin(setup, folder, resumed)
    say("\n".join([setup.description, *(f"changed: {change}" for change in changes)]))
    data, model = setup.training_data(), setup.new_model()
    checkpoints = folder.checkpoints(options.keep)
    trainer = Trainer(
        model, data, setup.training, setup.grid, checkpoints, options.checkpoint_minutes, interruption
    )
    if resumed:
        going_on = trainer.restore()
        where = f"goes on in epoch {trainer.epoch}, after {trainer.updates} updates"
        if trainer.sent_back and isinstance(setup.solver, MGRIT):
            where += ", with the serial solver, to which a loss that was not finite had sent it back"
        if not trainer.finished:
            say(f"{options.output}: {where if going_on else 'begins anew, since it has no checkpoint'}")
    begun = trainer.epoch
    results = Results(folder, trainer, data)
    if options.tensorboard:
        on_rank_zero(communicator, results.open_scalars, "opening the run folder")

    def after_epoch(metrics: dict[str, Any], test: Evaluation) -> None:
        on_rank_zero(communicator, lambda: results.write(metrics, test), "writing results")
        gather_warnings(communicator)
        say(line_of_epoch(metrics, options.epochs))

    received = trainer.run(after_epoch)
    results.close()
    if received is not None:
        on_rank_zero(communicator, lambda: folder.mark_stopped(received), "leaving word of the end")
        ranks = "" if communicator.size == 1 else f", on {communicator.size} ranks as before bit for bit"
        say(
            f"{options.output}: stopped by {received} in epoch {trainer.epoch}, after {trainer.updates} "
            f"updates; seqbraid train --output {shlex.quote(str(options.output))} --resume goes on{ranks}"
        )
        return
    last, best = trainer.history[-1], trainer.history[trainer.best_epoch - 1]
    if trainer.epoch == begun:
        ended = trainer.patience_left <= 0, trainer.epoch > options.epochs
        limits = f"--patience (now {options.patience})", f"--epochs (now {options.epochs})"
        raised = " and ".join(itertools.compress(limits, ended))
        say(f"{options.output} is finished; to train on, raise {raised}")
    if isinstance(setup.solver, MGRIT):
        batches = Batches(data.test, data.held, data.standardise, options.batch_size, setup.grid)
        found = both_inferences(model, batches, setup.solver)
        inference = {name: result.to_dict() for name, result in found.items()}
        on_rank_zero(
            communicator, lambda: folder.write_evaluation(last["epoch"], inference), "writing results"
        )
        say(table_of_inferences(found))
    if trainer.patience_left <= 0:
        say(f"ended by --patience: no smaller {trainer.watched} loss for {options.patience} epochs")
    accuracy = f"{best['test_accuracy']:.4f}"
    best_one = (
        f"highest {accuracy}, epoch {best['epoch']}"
        if trainer.watched == "test"
        else f"{accuracy} after epoch {best['epoch']}, the best on the validation part"
    )
    say(f"{options.output}: test accuracy {last['test_accuracy']:.4f} after the last epoch ({best_one})")
