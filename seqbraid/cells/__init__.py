"""Cells in plain PyTorch: the readable truth that every kernel is checked against."""

from seqbraid.cells.gru import (
    CellKind,
    Propagator,
    PropagatorKind,
    StepCount,
    adjoint_step,
    gate_cotangents,
    linearise,
    step,
)

__all__ = [
    "CellKind",
    "Propagator",
    "PropagatorKind",
    "StepCount",
    "adjoint_step",
    "gate_cotangents",
    "linearise",
    "step",
]
