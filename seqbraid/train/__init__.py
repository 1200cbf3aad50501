"""Training of sequence classifiers: model, trainer, checkpoints, run folder."""

from seqbraid.options import ModelOptions, TrainingOptions
from seqbraid.train.batches import Batches, BatchSlice, TimeSlice, TrainingData
from seqbraid.train.checkpoints import Checkpoints
from seqbraid.train.errors import NonFiniteError, TrainingStoppedError
from seqbraid.train.evaluation import Evaluation, evaluate
from seqbraid.train.fit import fit
from seqbraid.train.interruption import Interruption
from seqbraid.train.model import SequenceClassifier
from seqbraid.train.run import Prediction, Run, load_run
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.trainer import Trainer

__all__ = [
    "BatchSlice",
    "Batches",
    "Checkpoints",
    "Evaluation",
    "Interruption",
    "ModelOptions",
    "NonFiniteError",
    "Prediction",
    "Run",
    "RunFolder",
    "SequenceClassifier",
    "TimeSlice",
    "Trainer",
    "TrainingData",
    "TrainingOptions",
    "TrainingStoppedError",
    "evaluate",
    "fit",
    "load_run",
]
