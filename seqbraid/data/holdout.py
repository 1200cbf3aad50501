"""A validation part held back from the training part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqbraid.data.dataset import Part
from seqbraid.errors import OptionsError

__all__ = ["hold_out"]


def hold_out(part: Part, fraction: float, seed: int) -> tuple[Part, Part]:
    """Return the rest of `part` and what is held back: about `fraction` of each class, drawn by `seed`.

    Raises `OptionsError` where one of the two would be empty.
    """
    # Another stream than the order of batches, which has the same seed.
    random = np.random.default_rng([seed, 1])
    held = np.zeros(len(part), dtype=np.bool_)
    for label in np.unique(part.labels):
        members = random.permutation(np.flatnonzero(part.labels == label))
        held[members[: round(fraction * len(members))]] = True
    if held.all() or not held.any():
        raise OptionsError(
            f"holding back {fraction:g} of {len(part)} training sequences leaves {len(part) - held.sum()} to "
            f"train on and {held.sum()} to validate by; take another `validation_fraction`"
        )
    return _subset(part, np.flatnonzero(~held)), _subset(part, np.flatnonzero(held))


def _subset(part: Part, chosen: npt.NDArray[np.int64]) -> Part:
    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        return part.load(chosen[indices], start, stop)

    return Part(part.labels[chosen], part.lengths[chosen], load)
