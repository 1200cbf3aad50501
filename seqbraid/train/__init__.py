"""Training of sequence classifiers: model, trainer, run folder."""

from seqbraid.train.model import ModelOptions, SequenceClassifier, solver_from_dict, solver_to_dict
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.trainer import (
    Evaluation,
    TimeSlice,
    TrainingOptions,
    TrainingStoppedError,
    evaluate,
    train,
)

__all__ = [
    "Evaluation",
    "ModelOptions",
    "RunFolder",
    "SequenceClassifier",
    "TimeSlice",
    "TrainingOptions",
    "TrainingStoppedError",
    "evaluate",
    "solver_from_dict",
    "solver_to_dict",
    "train",
]
