"""Recurrent layers whose sequence dimension the solver runs in parallel."""

from seqbraid.rnn.auto import auto
from seqbraid.rnn.coarse import resolved
from seqbraid.rnn.gru import GRU
from seqbraid.rnn.recurrent import Recurrent

__all__ = ["GRU", "Recurrent", "auto", "resolved"]
