"""Which sequences of the data are taken, and how they are filled up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import FRACTION, TEXT, OneOf

__all__ = ["Padding", "SequenceOptions"]

Padding = Literal["lengths", "zeros", "repeat-last"]

_of_sequences = partial(option, group=Group("sequences"), change="fixed")


@documented
@dataclass(frozen=True)
class SequenceOptions:
    """Split, padding and what is held back of the training part."""

    split: str | None = _of_sequences(
        None,
        TEXT,
        "which of a feature store's splits",
        metavar="NAME",
        unset="the one that the store names",
    )
    pad: Padding = _of_sequences(
        "lengths",
        OneOf(Padding),
        "lengths: each sequence ends at its true end; zeros, repeat-last: each is filled up to all the steps "
        "that DATA has room for, with zeros (once standardised, so mean steps) or with its last step",
    )
    validation_fraction: float | None = _of_sequences(
        None,
        FRACTION,
        "hold this fraction of the training part back, of every class, to choose the best epoch by",
        metavar="FRACTION",
        unset="the test part is watched",
    )

    def __post_init__(self) -> None:
        check(self)
