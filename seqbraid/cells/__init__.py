"""Cells in plain PyTorch, one file each: the readable truth that every kernel is checked against."""

from seqbraid.cells.base import (
    Cell,
    CoarsePropagator,
    Parameters,
    State,
    StepCount,
    checked_step,
    pull_back,
    require_cell,
    require_states,
)
from seqbraid.cells.gru import (
    CellKind,
    GRUCell,
    Propagator,
    PropagatorKind,
    adjoint_step,
    candidate_weight,
    gate_cotangents,
    linearise,
    step,
)
from seqbraid.cells.layer_norm_gru import LayerNormGRU
from seqbraid.cells.tanh_rnn import TanhRNN

__all__ = [
    "Cell",
    "CellKind",
    "CoarsePropagator",
    "GRUCell",
    "LayerNormGRU",
    "Parameters",
    "Propagator",
    "PropagatorKind",
    "State",
    "StepCount",
    "TanhRNN",
    "adjoint_step",
    "candidate_weight",
    "checked_step",
    "gate_cotangents",
    "linearise",
    "pull_back",
    "require_cell",
    "require_states",
    "step",
]
