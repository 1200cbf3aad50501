"""The plain recurrent network of Elman (1990), with tanh: `torch.nn.RNN`'s cell."""

from __future__ import annotations

import torch
from torch import Tensor

from seqbraid.cells.base import Cell, Parameters, State

__all__ = ["TanhRNN"]


class TanhRNN(Cell):
    """h+ = tanh(x W_ih^T + b_ih + h W_hh^T + b_hh), with the parameters of `torch.nn.RNN`.

    Args:
        input_size: I, features a step.
        hidden_size: H, hidden units.

    """

    name = "TanhRNN"

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size = input_size
        self.state_sizes = (hidden_size,)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Cell.parameter_shapes`."""
        (hidden,) = self.state_sizes
        return {
            "weight_ih": (hidden, self.input_size),
            "weight_hh": (hidden, hidden),
            "bias_ih": (hidden,),
            "bias_hh": (hidden,),
        }

    def step(self, x: Tensor, state: State, parameters: Parameters) -> State:
        """See `Cell.step`."""
        (h,) = state
        a = torch.nn.functional.linear(x, parameters["weight_ih"], parameters["bias_ih"])
        g = torch.nn.functional.linear(h, parameters["weight_hh"], parameters["bias_hh"])
        return (torch.tanh(a + g),)
