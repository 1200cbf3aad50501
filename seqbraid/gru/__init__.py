"""`seqbraid.GRU`: layers whose sequence dimension the solver runs in parallel."""

from seqbraid.gru.module import GRU, sum_gradients

__all__ = ["GRU", "sum_gradients"]
