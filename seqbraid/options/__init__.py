"""Options as dataclasses without torch, each declared once."""

from seqbraid.options.declaring import Option, options_of, require_beside, values_of
from seqbraid.options.kinds import Kind
from seqbraid.options.model import CellKind, ModelOptions
from seqbraid.options.network import NetworkOptions
from seqbraid.options.ranks import RankOptions, ThreadOptions
from seqbraid.options.runs import RunOptions, SafetyOptions, TrainedOptions
from seqbraid.options.sequences import Padding, SequenceOptions
from seqbraid.options.solver import (
    MGRIT,
    TRAINED_BY,
    Serial,
    SolverOptions,
    solver_from_dict,
    solver_to_dict,
)
from seqbraid.options.training import TrainingOptions

__all__ = [
    "MGRIT",
    "TRAINED_BY",
    "CellKind",
    "Kind",
    "ModelOptions",
    "NetworkOptions",
    "Option",
    "Padding",
    "RankOptions",
    "RunOptions",
    "SafetyOptions",
    "SequenceOptions",
    "Serial",
    "SolverOptions",
    "ThreadOptions",
    "TrainedOptions",
    "TrainingOptions",
    "options_of",
    "require_beside",
    "solver_from_dict",
    "solver_to_dict",
    "values_of",
]
