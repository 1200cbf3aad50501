"""The sequence classifier: a GRU and a linear head on the state at each sequence's true end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqbraid.cells import CellKind
from seqbraid.errors import DataError
from seqbraid.gru import GRU
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train.batches import BatchShare

__all__ = ["ModelOptions", "SequenceClassifier", "solver_from_dict", "solver_to_dict"]


@dataclass(frozen=True)
class ModelOptions:
    """The sizes, the cell and the dropout of a classifier.

    `dropout` is the share that is set to zero in training, between layers and before the head.
    """

    feature_size: int
    classes: int
    hidden_size: int = 100
    num_layers: int = 1
    cell: CellKind = "classic"
    gamma: float = 1.0
    dropout: float = 0.0


class SequenceClassifier(nn.Module):
    """Logits (b, classes) from this rank's slice x (T, b, F) and the global lengths (b,) or None.

    `solver` and `comm` are those of `seqbraid.GRU`; the logits are the same on every rank along the sequence.
    """

    def __init__(self, options: ModelOptions, solver: Serial | MGRIT, comm: object = None) -> None:
        super().__init__()
        self.gru = GRU(
            options.feature_size,
            options.hidden_size,
            options.num_layers,
            cell=options.cell,
            gamma=options.gamma,
            dropout=options.dropout if options.num_layers > 1 else 0.0,
            solver=solver,
            comm=comm,
        )
        self.head = nn.Linear(options.hidden_size, options.classes)
        self.dropout = options.dropout
        # Of its own, so that every rank drops the same, whatever else draws random numbers.
        self.generator = torch.Generator()

    def forward(self, x: Tensor, lengths: list[int] | None = None, share: BatchShare | None = None) -> Tensor:
        """Return the logits; collective over the ranks. `share`: which of a batch's sequences x holds."""
        _, h_n = self.gru(x, lengths=lengths)
        state = h_n[-1]
        if self.training and self.dropout > 0.0:
            state = state * self._kept(state, share)
        logits: Tensor = self.head(state)
        return logits

    def _kept(self, state: Tensor, share: BatchShare | None) -> Tensor:
        """Return the factors of a dropout that does not depend on how the batch is shared out."""
        first, total = (0, len(state)) if share is None else (share.first, share.total)
        drawn = torch.rand(total, state.shape[1], generator=self.generator)[first : first + len(state)]
        return (drawn >= self.dropout).to(state) / (1.0 - self.dropout)


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
