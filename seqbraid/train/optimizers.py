"""The optimizer that training options ask for."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from seqbraid.options import TrainingOptions

__all__ = ["make_optimizer"]


def make_optimizer(parameters: Iterable[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """Return an optimizer whose `step` takes a closure that returns the loss."""
    rate, decay = options.base_rate, options.weight_decay
    if options.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=options.momentum, weight_decay=decay)
    # Its line search finds the step, so that the learning rate is the first trial alone.
    return torch.optim.LBFGS(parameters, lr=rate, line_search_fn="strong_wolfe")
