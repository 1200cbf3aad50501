"""The GRU with layer normalisation of Ba, Kiros & Hinton (2016), equations 27 to 29."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqbraid.cells.base import Cell, Parameters, State

__all__ = ["LayerNormGRU"]


class LayerNormGRU(Cell):
    """A GRU whose projections are normalised before they are added, gates and candidate each for themselves.

        r, z = sigmoid(LN(W_ih x)_rz + LN(W_hh h)_rz)     n = tanh(LN(W_ih x)_n + r LN(W_hh h)_n)
        h+ = n + z (h - n)

    Args:
        input_size: I, features a step.
        hidden_size: H, hidden units.
        epsilon: added to the variance (default 1e-5).

    """

    name = "LayerNormGRU"

    def __init__(self, input_size: int, hidden_size: int, epsilon: float = 1e-5) -> None:
        self.input_size = input_size
        self.state_sizes = (hidden_size,)
        self.epsilon = epsilon

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Cell.parameter_shapes`: weights, and gain and bias of each normalisation."""
        (hidden,) = self.state_sizes
        shapes: dict[str, tuple[int, ...]]
        shapes = {"weight_ih": (3 * hidden, self.input_size), "weight_hh": (3 * hidden, hidden)}
        return shapes | {
            f"{kind}_{side}": (3 * hidden,) for side in ("ih", "hh") for kind in ("gain", "bias")
        }

    def step(self, x: Tensor, state: State, parameters: Parameters) -> State:
        """See `Cell.step`."""
        (h,) = state
        a_rz, a_n = self._normalised(x, parameters, "ih")
        g_rz, g_n = self._normalised(h, parameters, "hh")
        r, z = torch.sigmoid(a_rz + g_rz).chunk(2, dim=-1)
        n = torch.tanh(a_n + r * g_n)
        return (torch.lerp(n, h, z),)

    def reset(self, name: str, parameter: Tensor) -> None:
        """See `Cell.reset`: gains begin at 1 and biases at 0."""
        if name.startswith("weight"):
            super().reset(name, parameter)
        else:
            nn.init.constant_(parameter, 1.0 if name.startswith("gain") else 0.0)

    def _normalised(self, values: Tensor, parameters: Parameters, side: str) -> tuple[Tensor, Tensor]:
        """Return the normalised projection for the gates (..., 2H) and for the candidate (..., H)."""
        (hidden,) = self.state_sizes
        projected = nn.functional.linear(values, parameters[f"weight_{side}"])
        gain, bias = parameters[f"gain_{side}"], parameters[f"bias_{side}"]
        rz, n = slice(0, 2 * hidden), slice(2 * hidden, None)
        of_gates, of_candidate = (
            nn.functional.layer_norm(
                projected[..., part], gain[part].shape, gain[part], bias[part], self.epsilon
            )
            for part in (rz, n)
        )
        return of_gates, of_candidate
