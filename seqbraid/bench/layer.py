"""The layer that is measured: one GRU with random weights on white noise, and a loss on its last state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from seqbraid.cells import CellKind
from seqbraid.comm import Communicator, SingleProcess
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.rnn import GRU

__all__ = ["Layer", "Size", "forward_backward", "gradient_of", "relative_error"]


@dataclass(frozen=True)
class Size:
    """T steps, B sequences, I inputs, H hidden units."""

    T: int
    B: int
    I: int  # noqa: E741
    H: int

    def __str__(self) -> str:
        """Return the four numbers as they are given on the command line."""
        return f"{self.T},{self.B},{self.I},{self.H}"


@dataclass(frozen=True)
class Layer:
    """A layer of the given size; the same `seed` draws the same weights and input on every rank.

    `gate_bias` is added to the update gate's part of bias_ih: the larger, the longer the memory.
    """

    size: Size
    cell: CellKind = "classic"
    gate_bias: float = 0.0
    dtype: torch.dtype = torch.float32
    seed: int = 0

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The parameters by their names in `torch.nn.GRU`, drawn as it draws them."""
        H, bound = self.size.H, 1.0 / math.sqrt(self.size.H)
        generator = torch.Generator().manual_seed(self.seed)
        shapes = {
            "weight_ih_l0": (3 * H, self.size.I),
            "weight_hh_l0": (3 * H, H),
            "bias_ih_l0": (3 * H,),
            "bias_hh_l0": (3 * H,),
        }
        drawn = {
            name: torch.empty(shape, dtype=self.dtype).uniform_(-bound, bound, generator=generator)
            for name, shape in shapes.items()
        }
        drawn["bias_ih_l0"][H : 2 * H] += self.gate_bias
        return drawn

    @cached_property
    def series(self) -> Tensor:
        """The whole input (T, B, I)."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return torch.randn(self.size.T, self.size.B, self.size.I, generator=generator, dtype=self.dtype)

    def module(self, solver: Serial | MGRIT, comm: Communicator | None = None) -> GRU:
        """Return the layer as `seqbraid.GRU`; without `comm`, for this process alone."""
        comm = SingleProcess() if comm is None else comm
        gru = GRU(
            self.size.I, self.size.H, dtype=self.dtype, cell=self.cell, gamma=1.0, solver=solver, comm=comm
        )
        gru.load_state_dict(self.weights)
        return gru

    def torch_module(self) -> nn.GRU:
        """Return `torch.nn.GRU` with the same weights, whose cell is the classic one whatever `cell` is."""
        gru = nn.GRU(self.size.I, self.size.H, dtype=self.dtype)
        gru.load_state_dict(self.weights)
        return gru


def forward_backward(module: nn.Module, *inputs: object) -> Tensor:
    """Run a module forward, and backward from its h_n to all parameters; return its output.

    What is measured everywhere in this package, so that every contender does the same.
    """
    module.zero_grad()
    output, h_n = module(*inputs)
    h_n.square().sum().backward()
    return output if isinstance(output, Tensor) else output.data


def gradient_of(module: nn.Module) -> Tensor:
    """Return the gradients of all parameters as one vector."""
    return torch.cat([each.grad.reshape(-1) for each in module.parameters() if each.grad is not None])


def relative_error(found: Tensor, truth: Tensor) -> float:
    """Return the 2-norm of the difference, relative to that of `truth`."""
    with torch.no_grad():
        return float(torch.linalg.vector_norm(found - truth) / torch.linalg.vector_norm(truth))
