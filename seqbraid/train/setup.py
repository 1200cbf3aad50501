"""All that a training is made of, from its options."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.data.dataset import Dataset, Part
from seqbraid.data.holdout import hold_out
from seqbraid.data.padding import pad_part, padded_steps
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import OptionsError
from seqbraid.options import (
    MGRIT,
    TRAINED_BY,
    ModelOptions,
    Serial,
    TrainingOptions,
    require_beside,
    solver_to_dict,
    values_of,
)
from seqbraid.options.commands import OF_A_TRAINING
from seqbraid.options.resuming import recorded
from seqbraid.rnn import resolved as resolved_solver
from seqbraid.rnn.choosing import choose_as_asked, solver_as_asked
from seqbraid.threads import set_threads
from seqbraid.train.batches import TimeSlice, TrainingData
from seqbraid.train.model import SequenceClassifier
from seqbraid.train.reporting import describe_setup
from seqbraid.train.slices import grid_of_ranks, take_slice
from seqbraid.version import __version__

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """The parts of a training.

    `arguments` are its options by their names in a record, with all that the solver's defaults add.
    """

    arguments: dict[str, Any]
    dataset: Dataset
    train: Part
    validation: Part | None
    steps: int
    held: TimeSlice
    grid: ProcessGrid
    threads: int
    solver: Serial | MGRIT
    model: ModelOptions
    training: TrainingOptions
    description: str

    @staticmethod
    def of(given: Mapping[str, Any], dataset: Dataset, world: Communicator) -> Setup:
        """Put the parts together; collective. Raises `OptionsError` for options that do not fit together."""
        threads = set_threads(given["threads"])
        require_beside(OF_A_TRAINING, given)
        training = TrainingOptions(**values_of(TrainingOptions, given))
        model = ModelOptions(
            feature_size=dataset.feature_size,
            classes=len(dataset.class_names),
            **values_of(ModelOptions, given),
        )
        longest = model.gamma * training.time_coarsening(1)
        if model.cell == "classic" and training.nested_levels and longest > 2:
            raise OptionsError(
                f"`nested_levels={training.nested_levels}` makes the cell's step {longest:g}, and above 2 "
                "the classic cell amplifies its state instead of forgetting it; take `cell=implicit`, or "
                "one level"
            )
        grid = grid_of_ranks(world, given["sequence_ranks"], given["data_ranks"])
        train, validation = dataset.train, None
        if given["validation_fraction"] is not None:
            train, validation = hold_out(dataset.train, given["validation_fraction"], training.seed)
        if training.lr_scaling == "linear" and training.batch_size > len(train):
            raise OptionsError(
                f"`batch_size={training.batch_size}` is more than the {len(train)} training sequences, and "
                f"`lr_scaling=linear` would scale the rate for as many; give `batch_size={len(train)}`"
            )
        absent = sorted(set(range(len(dataset.class_names))) - set(train.labels.tolist()))
        if absent:
            names = ", ".join(dataset.class_names[index] for index in absent)
            warnings.warn(f"no sequence to train on is of class {names}", RuntimeWarning, stacklevel=2)
        steps = padded_steps(dataset, given["pad"])
        batch = -(-min(training.batch_size, len(train)) // grid.data.size)
        size = (steps, batch, dataset.feature_size, model.hidden_size)
        choice = choose_as_asked(given, size, grid.sequence.size)
        solver = resolved_solver(solver_as_asked(given, choice=choice))
        held = take_slice(steps, solver, grid)
        arguments = {**given, "threads": threads}
        if isinstance(solver, MGRIT):
            arguments |= {**asdict(solver), "memory": None}  # it was for a coarsening of "auto"
        elif choice is not None:
            arguments |= {**dict.fromkeys(asdict(TRAINED_BY)), "solver": "serial", "memory": None}
        description = describe_setup(dataset, train, validation, given["pad"], steps, grid, threads, solver)
        description += f", {model.cell} cell" + ("" if choice is None else f"\n{choice}")
        return Setup(
            arguments,
            dataset,
            train,
            validation,
            steps,
            held,
            grid,
            threads,
            solver,
            model,
            training,
            description,
        )

    def record(self) -> dict[str, Any]:
        """Return what options.json says of the run."""
        dataset, pad = self.dataset, self.arguments["pad"]
        path = self.arguments["data"]
        data = None if path is None else str(Path(path).resolve())
        split = (
            {} if dataset.split is None else {"split": dataset.split, "split_sha256": dataset.split_sha256}
        )
        padding = {"pad": pad} if pad == "lengths" else {"pad": pad, "padded_steps": self.steps}
        return {
            "seqbraid": __version__,
            "data": data,
            **split,
            "features": dataset.options,
            "class_names": dataset.class_names,
            "sequences": {"train": len(dataset.train), "test": len(dataset.test)},
            "model": asdict(self.model),
            "solver": solver_to_dict(self.solver),
            "training": {**asdict(self.training), **padding},
            "ranks": self.grid.world.size,
            "sequence_ranks": self.grid.sequence.size,
            "data_ranks": self.grid.data.size,
            "threads": self.threads,
            "arguments": recorded(OF_A_TRAINING, self.arguments),
        }

    def training_data(self) -> TrainingData:
        """Return the parts, padded, with mean and deviation of the training part; collective."""
        held = self.held
        standardise = Standardisation.fit(
            self.train, held.start, held.stop, self.dataset.feature_size, self.grid.sequence
        )
        mean, pad = standardise.mean.numpy(), self.arguments["pad"]
        train, test = (pad_part(part, self.steps, pad, mean) for part in (self.train, self.dataset.test))
        validation = None if self.validation is None else pad_part(self.validation, self.steps, pad, mean)
        return TrainingData(train, test, held, standardise, validation)

    def new_model(self) -> SequenceClassifier:
        """Return the classifier with its first weights, the same on every rank."""
        torch.manual_seed(self.training.seed)
        return SequenceClassifier(self.model, self.solver, self.grid)
