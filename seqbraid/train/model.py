"""The sequence classifier: a GRU and a linear head on the state at each sequence's true end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqbraid.options import MGRIT, ModelOptions, Serial
from seqbraid.rnn import GRU
from seqbraid.train.batches import BatchSlice

__all__ = ["SequenceClassifier"]


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

    def forward(
        self, x: Tensor, lengths: list[int] | None = None, batch_slice: BatchSlice | None = None
    ) -> Tensor:
        """Return the logits; collective over the ranks. `batch_slice`: which sequences x holds."""
        _, h_n = self.gru(x, lengths=lengths)
        state = h_n[-1]
        if self.training and self.dropout > 0.0:
            state = state * self._kept(state, batch_slice)
        logits: Tensor = self.head(state)
        return logits

    def _kept(self, state: Tensor, batch_slice: BatchSlice | None) -> Tensor:
        """Return the factors of a dropout that does not depend on how the batch is divided."""
        first, total = (0, len(state)) if batch_slice is None else (batch_slice.first, batch_slice.total)
        drawn = torch.rand(total, state.shape[1], generator=self.generator)[first : first + len(state)]
        return (drawn >= self.dropout).to(state) / (1.0 - self.dropout)
