"""An exponential moving average of a model's weights, kept beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Averages the parameters of `model`; each update leaves the fraction `decay` of the average before it.

    Not torch's `AveragedModel`, which copies the module: that holds the communicator of the ranks. Average
    and weights change places instead, so that the model itself is measured with either.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._average: dict[str, Tensor] = {}
        self._in_model = False
        self._move: Any = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """Begin at the weights as they are; one that has begun goes on. The model has its weights then."""
        self.leave_model()
        if not self._average:
            self._average = {name: each.detach().clone() for name, each in self._parameters.items()}

    def update(self) -> None:
        """Move the average towards the weights."""
        weights = [each.detach() for each in self._parameters.values()]
        self._move(list(self._average.values()), weights, None)

    def enter_model(self) -> None:
        """Let the model have the average, which gives the weights its place."""
        if not self._in_model:
            self._change_places()

    def leave_model(self) -> None:
        """Let the model have its weights again."""
        if self._in_model:
            self._change_places()

    def state(self) -> dict[str, Tensor]:
        """Return the average by the names of the parameters; for when it is not in the model."""
        return dict(self._average)

    def load(self, state: dict[str, Tensor] | None) -> None:
        """Take what `state` gave, for a model whose weights have just been loaded; None: begin anew.

        Raises `KeyError` or `RuntimeError` where it belongs to another model.
        """
        self._in_model = False
        self._average = {}
        if state is not None:
            self._average = {
                name: torch.empty_like(each, requires_grad=False).copy_(state[name])
                for name, each in self._parameters.items()
            }

    @torch.no_grad()
    def _change_places(self) -> None:
        for name, parameter in self._parameters.items():
            weights = parameter.clone()
            parameter.copy_(self._average[name])
            self._average[name].copy_(weights)
        self._in_model = not self._in_model
