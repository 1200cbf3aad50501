"""Cells that the tests of recurrent layers have in common."""

import torch
from torch import nn

from seqbraid.cells import Cell, GRUCell, TanhRNN


class LSTMCell(Cell):
    """Two states, h and c, in the parameters and gates of `torch.nn.LSTM`."""

    def __init__(self, input_size, hidden_size):
        self.input_size, self.state_sizes = input_size, (hidden_size, hidden_size)

    def parameter_shapes(self):
        hidden = self.state_sizes[0]
        return {
            "weight_ih": (4 * hidden, self.input_size),
            "weight_hh": (4 * hidden, hidden),
            "bias_ih": (4 * hidden,),
            "bias_hh": (4 * hidden,),
        }

    def step(self, x, state, parameters):
        h, c = state
        gates = nn.functional.linear(x, parameters["weight_ih"], parameters["bias_ih"])
        gates = gates + nn.functional.linear(h, parameters["weight_hh"], parameters["bias_hh"])
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class GenericGRU(GRUCell):
    """The GRU without its kernels."""


class TanhRNNByHand(TanhRNN):
    """The same with an adjoint that is written out."""

    calls = 0

    def vjp(self, x, state, parameters, cotangents):
        TanhRNNByHand.calls += 1
        (h,), (h_next,) = state, self.step(x, state, parameters)
        before = cotangents[0] * (1 - h_next * h_next)
        flat, ones = before.flatten(0, -2), before.flatten(0, -2).sum(0)
        of_parameters = {
            "weight_ih": flat.t() @ x.flatten(0, -2),
            "weight_hh": flat.t() @ h.flatten(0, -2),
            "bias_ih": ones,
            "bias_hh": ones,
        }
        return before @ parameters["weight_ih"], (before @ parameters["weight_hh"],), of_parameters
