"""Cross entropy as a sum of parts, each computed by the ranks that hold a part of the batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqbraid.options.training import ClassWeights

__all__ = ["CrossEntropy", "class_weights"]


class CrossEntropy:
    """Mean cross entropy over a batch, as `torch.nn.CrossEntropyLoss` defines it, as partial sums.

    weights: (classes,) or None; smoothing: fraction of the target spread over all classes.
    """

    def __init__(self, weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        self.weights = weights
        self.smoothing = smoothing

    def partial(self, logits: Tensor, labels: Tensor, all_labels: Tensor) -> Tensor:
        """Return what `logits` (b, classes) of `labels` (b,) add to the mean over the batch `all_labels`."""
        weights = None if self.weights is None else self.weights.to(logits)
        total = nn.functional.cross_entropy(
            logits, labels, weights, reduction="sum", label_smoothing=self.smoothing
        )
        return total / (len(all_labels) if weights is None else weights[all_labels].sum())


def class_weights(kind: ClassWeights, labels: Tensor, classes: int) -> Tensor | None:
    """Return the weight of each class: None for "none"; "balanced" is N / (classes x its sequences).

    A class without a sequence has weight 0.
    """
    if kind == "none":
        return None
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 0.0).float()
