"""Modules, data and results that the tests of `seqbraid.GRU` share."""

import torch
from reference import relative_error

import seqbraid as sb

CONVERGED = {"forward_iterations": 40, "backward_iterations": 40}


def make(solver, layers=1, cell="classic", gamma=1.0, bias=True, dtype=torch.float64, sizes=(5, 6), **more):
    torch.manual_seed(0)
    return sb.GRU(*sizes, layers, bias, dtype=dtype, cell=cell, gamma=gamma, solver=solver, **more)


def data(T, B=3, layers=1, dtype=torch.float64, sizes=(5, 6)):
    torch.manual_seed(7)
    x = torch.randn(T, B, sizes[0], dtype=dtype, requires_grad=True)
    h0 = torch.randn(layers, B, sizes[1], dtype=dtype, requires_grad=True)
    return x, h0


def everything(run, module, x, h0):
    """Return output, h_n and the gradients of x, h0 and all parameters; the loss touches every state."""
    output, h_n = run(x, h0)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    loss = (output * weights).sum() + h_n.square().sum()
    return [output, h_n, *torch.autograd.grad(loss, [x, h0, *module.parameters()])]


def worst(found, truth):
    assert len(found) == len(truth)
    return max(relative_error(one, other) for one, other in zip(found, truth, strict=True))
