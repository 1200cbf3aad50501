from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqbraid.comm import SingleProcess
from seqbraid.data.dataset import Part
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import DataError


def make_part(lengths: list[int], steps: int, size: int, padding: float) -> tuple[Part, Any]:
    random = np.random.default_rng(1)
    x = random.normal(3.0, [0.5, 20.0, 1e-3][:size], (len(lengths), steps, size)).astype(np.float32)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = padding
    part = Part(
        np.zeros(len(lengths), np.int64),
        np.array(lengths, np.int64),
        lambda indices, start, stop: x[indices, start:stop],
    )
    return part, x


class SumOf(SingleProcess):
    """Adds what another rank would have contributed."""

    def __init__(self, other: Tensor) -> None:
        self.other = other

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        return tensor.add_(self.other)


class Capture(SingleProcess):
    """Keeps what this rank contributes."""

    contribution: Tensor

    def all_reduce(self, tensor: Tensor, what: str) -> Tensor:
        self.contribution = tensor.clone()
        return tensor.fill_(1.0)


def test_mean_and_deviation_are_those_of_the_valid_steps() -> None:
    # More sequences than are read at a time, and padding that would show.
    lengths = [1 + index % 7 for index in range(150)]
    part, x = make_part(lengths, 7, 3, padding=1e6)
    fitted = Standardisation.fit(part, 0, 7, 3, SingleProcess())
    valid = np.concatenate([row[:length] for row, length in zip(x, lengths, strict=True)]).astype(np.float64)
    np.testing.assert_allclose(fitted.mean, valid.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(fitted.deviation, valid.std(axis=0), rtol=1e-4)
    scaled = fitted(torch.from_numpy(valid).float()).double()
    np.testing.assert_allclose(scaled.mean(dim=0), 0.0, atol=2e-3)
    np.testing.assert_allclose(scaled.std(dim=0, unbiased=False), 1.0, rtol=1e-3)


def test_the_steps_may_be_shared_over_ranks_with_idle_ones() -> None:
    part, _ = make_part([5, 7, 2, 6], 7, 3, padding=9.0)
    whole = Standardisation.fit(part, 0, 7, 3, SingleProcess())
    others = torch.zeros(3, 3, dtype=torch.float64)
    for start, stop in ((3, 6), (6, 7), (7, 7)):
        rank = Capture()
        Standardisation.fit(part, start, stop, 3, rank)
        others += rank.contribution
    shared = Standardisation.fit(part, 0, 3, 3, SumOf(others))
    torch.testing.assert_close(shared.mean, whole.mean)
    torch.testing.assert_close(shared.deviation, whole.deviation)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    part, x = make_part([3, 4], 4, 3, padding=np.nan)
    Standardisation.fit(part, 0, 4, 3, SingleProcess())  # the padding does not count
    x[1, 3, 2] = value
    with pytest.raises(DataError, match="nan or inf in 1 of 3 features, the first is number 2"):
        Standardisation.fit(part, 0, 4, 3, SingleProcess())


def test_a_constant_feature_keeps_its_scale() -> None:
    x = np.stack([np.full((8, 4), 1234.5), np.zeros((8, 4)), np.arange(32.0).reshape(8, 4)], axis=2)
    part = Part(
        np.zeros(8, np.int64),
        np.full(8, 4),
        lambda indices, start, stop: x[indices, start:stop].astype(np.float32),
    )
    fitted = Standardisation.fit(part, 0, 4, 3, SingleProcess())
    assert fitted.deviation[:2].tolist() == [1.0, 1.0]
    assert fitted(torch.tensor([1234.5, 0.0, 15.5])).tolist() == [0.0, 0.0, 0.0]
