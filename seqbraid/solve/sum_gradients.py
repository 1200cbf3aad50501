"""Gradients of modules that saw only a part of the data, summed over the ranks that saw the others."""

from __future__ import annotations

import torch
from torch import nn

from seqbraid.comm import as_grid, sum_in_one_message

__all__ = ["sum_gradients"]


def sum_gradients(module: nn.Module, comm: object) -> None:
    """Add up over the ranks of `comm` the gradients of a module that saw only a part, in one message.

    A mean loss must be divided by the number of all sequences, on every rank. Which ranks saw parts:

    - an encoder upstream of a `GRU`, or a head on its per-step output, saw a slice of this group's sequences:
      sum over all ranks, `sum_gradients(encoder, comm)`, where `comm` is what the `GRU` has.
    - a head on h_n saw this group's sequences, and has the same gradient on all ranks of the group: with an
      mpi4py communicator or a `Communicator` it must not be summed, with a `ProcessGrid` over the groups,
      `sum_gradients(head, grid.data)`.
    - a `GRU` itself: never, its gradients come summed over all ranks.

    `comm` is a `ProcessGrid`, all ranks of which are meant, or whatever else a `GRU` takes. Collective;
    parameters without a gradient count as zero.
    """
    communicator = as_grid(comm).world
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
        group = [gradient for gradient in gradients if gradient.dtype == dtype]
        sum_in_one_message(group, communicator, "sum_gradients")
