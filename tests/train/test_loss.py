from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from seqbraid.train.loss import CrossEntropy, class_weights


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
)
def test_shares_add_up_to_the_loss_of_torch(
    labels: list[int], cut: int, weighted: bool, smoothing: float
) -> None:
    target = torch.tensor(labels)
    logits = torch.randn(len(labels), 4, dtype=torch.float64)
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64) if weighted else None
    loss = CrossEntropy(weights, smoothing)
    shares = [
        loss.partial(logits[rows], target[rows], target)
        for rows in (slice(0, cut), slice(cut, None))
        if len(target[rows])
    ]
    expected = nn.functional.cross_entropy(logits, target, weights, label_smoothing=smoothing)
    assert float(sum(shares)) == pytest.approx(float(expected), rel=1e-12)


def test_balanced_weights_let_every_class_count_alike() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights("balanced", labels, 4)
    assert weights is not None
    counts = torch.bincount(labels, minlength=4)
    assert (weights * counts).tolist() == pytest.approx([2.5, 2.5, 0.0, 2.5])
    assert class_weights("none", labels, 4) is None
