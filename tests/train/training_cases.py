"""A small training that several tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqbraid.comm import ProcessGrid
from seqbraid.data.dataset import Part
from seqbraid.data.standardisation import Standardisation
from seqbraid.mgrit import MGRIT, Serial, local_slice
from seqbraid.train import (
    Checkpoints,
    ModelOptions,
    SequenceClassifier,
    TimeSlice,
    Trainer,
    TrainingData,
    TrainingOptions,
)

STEPS, SIZE, CLASSES, COUNT = 8, 3, 2, 23
IDENTITY = Standardisation(torch.zeros(SIZE), torch.ones(SIZE))


def make_part(count: int, seed: int) -> Part:
    """Return sequences of unequal length whose class is the sign of their first feature's mean."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    x = random.normal(0.0, 1.0, (count, STEPS, SIZE)).astype(np.float32)
    x[:, :, 0] += np.where(labels == 1, 1.0, -1.0)[:, None]
    lengths = random.integers(4, STEPS + 1, count)
    return Part(labels, lengths.astype(np.int64), lambda indices, start, stop: x[indices, start:stop])


def make_trainer(
    options: TrainingOptions,
    solver: Serial | MGRIT | None = None,
    grid: ProcessGrid | None = None,
    folder: Path | None = None,
    validation: bool = False,
    dtype: torch.dtype = torch.float32,
    **trainer: Any,
) -> Trainer:
    """Return a trainer of a two-layer classifier with dropout on 23 sequences, and 9 to test by."""
    grid = grid or ProcessGrid()
    solver = solver or Serial()
    torch.manual_seed(options.seed)
    model = SequenceClassifier(
        ModelOptions(SIZE, CLASSES, hidden_size=5, num_layers=2, dropout=0.2), solver, grid
    ).to(dtype)
    held = local_slice(STEPS, grid.sequence, solver)
    standardise = Standardisation(IDENTITY.mean.to(dtype), IDENTITY.deviation.to(dtype))
    data = TrainingData(
        make_part(COUNT, 0),
        make_part(9, 1),
        TimeSlice(held.start, held.stop, STEPS),
        standardise,
        make_part(7, 2) if validation else None,
    )
    checkpoints = None if folder is None else Checkpoints(folder / "checkpoints")
    return Trainer(model, data, options, grid, checkpoints, **trainer)


def weights_of(trainer: Trainer) -> torch.Tensor:
    """Return all parameters as one vector."""
    return torch.nn.utils.parameters_to_vector([p.detach() for p in trainer.model.parameters()])


def ignore(*results: object) -> None:
    """Do nothing after an epoch."""
