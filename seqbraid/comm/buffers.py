"""Many small tensors as one message."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqbraid.comm.base import Communicator

__all__ = ["sum_in_one_message"]


def sum_in_one_message(tensors: Sequence[Tensor], communicator: Communicator, what: str) -> None:
    """Sum tensors of one dtype and device over the ranks, in place; collective."""
    if not tensors or communicator.size == 1:
        return
    total = torch.cat([tensor.reshape(-1) for tensor in tensors])
    communicator.all_reduce(total, what)
    sums = torch.split(total, [tensor.numel() for tensor in tensors])
    for tensor, summed in zip(tensors, sums, strict=True):
        tensor.copy_(summed.view_as(tensor))
