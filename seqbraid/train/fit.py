"""A training from its data and options to its run folder: what `seqbraid train` does."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqbraid.comm import Communicator, as_communicator, launched_ranks, on_rank_zero
from seqbraid.data.dataset import Dataset
from seqbraid.errors import OptionsError
from seqbraid.messages import gather_warnings
from seqbraid.options import MGRIT
from seqbraid.train.batches import Batches, TrainingData
from seqbraid.train.evaluation import Evaluation
from seqbraid.train.inference import both_inferences
from seqbraid.train.interruption import Interruption
from seqbraid.train.reporting import line_of_epoch
from seqbraid.train.results import Results
from seqbraid.train.run import Run
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.setup import Setup
from seqbraid.train.starting import arguments_of, begin, open_data, resumes
from seqbraid.train.tables import table_of_inferences
from seqbraid.train.trainer import Trainer

__all__ = ["fit"]

_logger = logging.getLogger(__name__)


def fit(
    data: str | Path | Dataset | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    output: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    comm: object = None,
) -> Run:
    """Train a classifier and return its run, with the weights of the last epoch; collective over `comm`.

    `data` is a feature store, an .npz file, a folder of .npy files, or a data set that is open; None takes
    those of the run that goes on. `options` are those of docs/options.md by their names in Python, say
    {"hidden_size": 64, "epochs": 20, "solver": sb.MGRIT(coarsening=4)}. The run folder `output` is that of
    `seqbraid train`. With `resume`, a run that is there goes on, with its own options but for those given;
    where there is none, it is begun. `overwrite` replaces a run that lies there. `comm` is that of
    `seqbraid.GRU`.

    What it has to say is logged to "seqbraid.train". SIGTERM and SIGUSR1 end it after the update under way,
    with a checkpoint: `Run.stopped_by` tells. Raises `OptionsError` for options that do not fit together or
    do not fit the run, `DataError` for data, and `TrainingStoppedError` for a loss that is not finite.
    """
    world = as_communicator(comm)
    if comm is None and launched_ranks() > 1:
        raise OptionsError(
            f"this process is one of {launched_ranks()} ranks, each of which would train alone into "
            f"{output}; pass comm=MPI.COMM_WORLD"
        )
    # From here on, signals are acted upon after the next update.
    with Interruption() as interruption:
        _fit(data, arguments_of(options or {}), Path(output), resume, overwrite, world, interruption)
    return Run(output)


def _fit(
    data: str | Path | Dataset | None,
    given: Mapping[str, Any],
    output: Path,
    resume: bool,
    overwrite: bool,
    world: Communicator,
    interruption: Interruption,
) -> None:
    _require_same_options(given, world)
    folder = RunFolder(output)
    resumed = resumes(folder, world, resume, overwrite)
    dataset, arguments = open_data(data, given, folder, resumed)
    setup = Setup.of(arguments, dataset, world)
    changes = begin(setup, folder, resumed, overwrite)
    _logger.info("\n".join([setup.description, *(f"changed: {change}" for change in changes)]))
    training_data = setup.training_data()
    checkpoints = folder.checkpoints(arguments["keep"])
    trainer = Trainer(
        setup.new_model(),
        training_data,
        setup.training,
        setup.grid,
        checkpoints,
        arguments["checkpoint_minutes"],
        interruption,
    )
    if resumed:
        _restore(trainer, setup, folder)
    begun = trainer.epoch
    received = _run_epochs(trainer, training_data, folder, world, arguments["tensorboard"])
    if received is not None:
        on_rank_zero(world, lambda: folder.mark_stopped(received), "leaving word of the end")
        ranks = "" if world.size == 1 else f", on {world.size} ranks as before bit for bit"
        _logger.info(
            f"{output}: stopped by {received} in epoch {trainer.epoch}, after {trainer.updates} updates; "
            f"with `resume=True` it goes on{ranks}"
        )
        return
    if trainer.epoch == begun:
        ended = trainer.patience_left <= 0, trainer.epoch > setup.training.epochs
        limits = f"`patience` (now {setup.training.patience})", f"`epochs` (now {setup.training.epochs})"
        raised = " and ".join(itertools.compress(limits, ended))
        _logger.info(f"{output} is finished; to train on, raise {raised}")
    _finish(trainer, setup, training_data, folder)


def _require_same_options(given: Mapping[str, Any], world: Communicator) -> None:
    """Raise `OptionsError` on all ranks where one was given other options than rank 0; collective."""
    everyones = world.all_gather_objects({name: repr(value) for name, value in given.items()}, "options")
    for rank, options in enumerate(everyones):
        for name in {**everyones[0], **options}:
            if options.get(name) != everyones[0].get(name):
                raise OptionsError(
                    f"`{name}` is {options.get(name, 'not given')} on rank {rank} and "
                    f"{everyones[0].get(name, 'not given')} on rank 0; give every rank the same options"
                )


def _restore(trainer: Trainer, setup: Setup, folder: RunFolder) -> None:
    """Let the trainer go on from the latest checkpoint."""
    going_on = trainer.restore()
    where = f"goes on in epoch {trainer.epoch}, after {trainer.updates} updates"
    if trainer.sent_back and isinstance(setup.solver, MGRIT):
        where += ", with the serial solver, to which a loss that was not finite had sent it back"
    if not trainer.finished:
        _logger.info(f"{folder.folder}: {where if going_on else 'begins anew, since it has no checkpoint'}")


def _run_epochs(
    trainer: Trainer, data: TrainingData, folder: RunFolder, world: Communicator, tensorboard: bool
) -> str | None:
    """Train, and write results after each epoch; return the signal that ended it before its end."""
    results = Results(folder, trainer, data)
    if tensorboard:
        on_rank_zero(world, results.open_scalars, "opening the run folder")

    def after_epoch(metrics: dict[str, Any], test: Evaluation) -> None:
        on_rank_zero(world, lambda: results.write(metrics, test), "writing results")
        gather_warnings(world)
        _logger.info(line_of_epoch(metrics, trainer.options.epochs))

    received = trainer.run(after_epoch)
    results.close()
    return received


def _finish(trainer: Trainer, setup: Setup, data: TrainingData, folder: RunFolder) -> None:
    """Measure inference both ways, where the training was parallel, and say what came of it all."""
    last, best = trainer.history[-1], trainer.history[trainer.best_epoch - 1]
    if isinstance(setup.solver, MGRIT):
        batches = Batches(data.test, data.held, data.standardise, setup.training.batch_size, setup.grid)
        found = both_inferences(trainer.model, batches, setup.solver)
        inference = {name: result.to_dict() for name, result in found.items()}
        on_rank_zero(
            setup.grid.world, lambda: folder.write_evaluation(last["epoch"], inference), "writing results"
        )
        _logger.info(table_of_inferences(found))
    if trainer.patience_left <= 0:
        _logger.info(
            f"ended by `patience`: no smaller {trainer.watched} loss for {setup.training.patience} epochs"
        )
    accuracy = f"{best['test_accuracy']:.4f}"
    best_one = (
        f"highest {accuracy}, epoch {best['epoch']}"
        if trainer.watched == "test"
        else f"{accuracy} after epoch {best['epoch']}, the best on the validation part"
    )
    _logger.info(
        f"{folder.folder}: test accuracy {last['test_accuracy']:.4f} after the last epoch ({best_one})"
    )
