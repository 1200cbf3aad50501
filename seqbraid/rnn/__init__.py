"""Recurrent layers whose sequence dimension the solver runs in parallel."""

from seqbraid.rnn.auto import auto
from seqbraid.rnn.coarse import resolved
from seqbraid.rnn.module import GRU, sum_gradients

__all__ = ["GRU", "auto", "resolved", "sum_gradients"]
