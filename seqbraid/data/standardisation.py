"""Features brought to mean 0 and deviation 1 by statistics of the training part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqbraid.comm import Communicator
from seqbraid.data.dataset import Part
from seqbraid.errors import DataError

__all__ = ["Standardisation"]

_CHUNK = 64


@dataclass(frozen=True)
class Standardisation:
    """x -> (x - mean) / deviation, feature by feature; both (F,) float32."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def fit(
        part: Part, start: int, stop: int, feature_size: int, communicator: Communicator
    ) -> Standardisation:
        """Take mean and deviation over the valid steps of all sequences; collective.

        Each rank reads its own steps start ... stop - 1, and the sums are added over the ranks. A feature
        that does not vary keeps its scale: its deviation is 1. Raises `DataError`, on every rank, where a
        feature holds nan or inf.
        """
        # Columns: sum, sum of squares, and the count of steps in every row.
        sums = torch.zeros((3, feature_size), dtype=torch.float64)
        for first in range(0, len(part) if stop > start else 0, _CHUNK):
            indices = np.arange(first, min(first + _CHUNK, len(part)))
            block = torch.from_numpy(part.load(indices, start, stop)).double()
            valid = torch.arange(start, stop) < torch.from_numpy(part.lengths[indices]).unsqueeze(1)
            values = block[valid]
            sums += torch.stack(
                [values.sum(0), values.square().sum(0), values.new_full((feature_size,), len(values))]
            )
        communicator.all_reduce(sums, "mean and deviation of the training part")
        bad = torch.nonzero(~sums.isfinite().all(dim=0)).flatten().tolist()
        if bad:
            raise DataError(
                f"the training part holds nan or inf in {len(bad)} of {feature_size} features, the first is "
                f"number {bad[0]}; make the features anew, with weights that are not damaged"
            )
        mean = sums[0] / sums[2]
        deviation = (sums[1] / sums[2] - mean.square()).clamp_min(0.0).sqrt()
        # Below float32's rounding of the values themselves there is no variation to scale up.
        constant = deviation <= 1e-6 * mean.abs()
        deviation[constant] = 1.0
        return Standardisation(mean.float(), deviation.float())

    def __call__(self, x: Tensor) -> Tensor:
        """Standardise x (..., F)."""
        return (x - self.mean) / self.deviation
