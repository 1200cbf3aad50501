"""Why a training cannot go on."""

from __future__ import annotations

from seqbraid.errors import SeqbraidError

__all__ = ["NonFiniteError", "TrainingStoppedError"]


class TrainingStoppedError(SeqbraidError):
    """Training cannot go on; the message says why."""

    exit_code = 3


class NonFiniteError(TrainingStoppedError):
    """The loss, or a weight, is nan or infinite."""
