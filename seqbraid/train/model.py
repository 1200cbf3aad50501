"""The sequence classifier: a GRU and a linear head on the state at each sequence's true end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from seqbraid.cells import CellKind
from seqbraid.errors import DataError
from seqbraid.gru import GRU
from seqbraid.mgrit import MGRIT, Serial

__all__ = ["ModelOptions", "SequenceClassifier", "solver_from_dict", "solver_to_dict"]


@dataclass(frozen=True)
class ModelOptions:
    """The sizes and the cell of a classifier; the weights do not depend on anything else."""

    feature_size: int
    classes: int
    hidden_size: int = 100
    num_layers: int = 1
    cell: CellKind = "classic"
    gamma: float = 1.0


class SequenceClassifier(nn.Module):
    """Logits (B, classes) from this rank's slice x (T, B, F) and the global lengths (B,) or None.

    `solver` and `comm` are those of `seqbraid.GRU`; the logits are the same on every rank.
    """

    def __init__(self, options: ModelOptions, solver: Serial | MGRIT, comm: object = None) -> None:
        super().__init__()
        self.gru = GRU(
            options.feature_size,
            options.hidden_size,
            options.num_layers,
            cell=options.cell,
            gamma=options.gamma,
            solver=solver,
            comm=comm,
        )
        self.head = nn.Linear(options.hidden_size, options.classes)

    def forward(self, x: Tensor, lengths: list[int] | None = None) -> Tensor:
        """Return the logits; collective over the ranks."""
        _, h_n = self.gru(x, lengths=lengths)
        logits: Tensor = self.head(h_n[-1])
        return logits


def solver_to_dict(solver: Serial | MGRIT) -> dict[str, Any]:
    """Return a solver as plain values for a file."""
    return {"solver": "mgrit" if isinstance(solver, MGRIT) else "serial", **asdict(solver)}


def solver_from_dict(values: dict[str, Any]) -> Serial | MGRIT:
    """Return the solver that `solver_to_dict` wrote; raises `DataError` for values that it cannot have."""
    options = {name: value for name, value in values.items() if name != "solver"}
    kinds: dict[Any, type[Serial] | type[MGRIT]] = {"serial": Serial, "mgrit": MGRIT}
    try:
        return kinds[values.get("solver")](**options)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the run's solver cannot be made from {values} ({error}); train again") from error
