"""Recurrent networks trained in parallel along the sequence."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from seqbraid.version import __version__ as __version__

if TYPE_CHECKING:
    from seqbraid.cells import Cell
    from seqbraid.comm import ProcessGrid, SimulatedWorld
    from seqbraid.errors import SeqbraidError
    from seqbraid.mgrit import (
        MGRIT,
        Serial,
        SolverDivergedError,
        SolverDivergedWarning,
        SolveReport,
        local_slice,
    )
    from seqbraid.rnn import GRU, Recurrent
    from seqbraid.solve import sum_gradients
    from seqbraid.train import load_run

__all__ = [
    "GRU",
    "MGRIT",
    "Cell",
    "ProcessGrid",
    "Recurrent",
    "SeqbraidError",
    "Serial",
    "SimulatedWorld",
    "SolveReport",
    "SolverDivergedError",
    "SolverDivergedWarning",
    "load_run",
    "local_slice",
    "sum_gradients",
]

_HOMES = {
    "Cell": "seqbraid.cells",
    "GRU": "seqbraid.rnn",
    "MGRIT": "seqbraid.rnn.auto",
    "ProcessGrid": "seqbraid.comm",
    "Recurrent": "seqbraid.rnn",
    "SeqbraidError": "seqbraid.errors",
    "SimulatedWorld": "seqbraid.comm",
    "load_run": "seqbraid.train",
    "sum_gradients": "seqbraid.solve",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: processes that only decode videos need no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'seqbraid' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "seqbraid.mgrit")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
