"""What rank 0 has, given to every rank."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from seqbraid.comm import Communicator, on_rank_zero
from seqbraid.train.checkpoints import Checkpoints

__all__ = ["copy_parameters", "latest_checkpoint"]


def latest_checkpoint(checkpoints: Checkpoints, world: Communicator) -> bytes | None:
    """Return the latest whole checkpoint, which rank 0 reads for all; collective."""

    def warn(text: str) -> None:
        warnings.warn(text, RuntimeWarning, stacklevel=2)

    data: bytes | None = None

    def read() -> int | None:
        nonlocal data
        data = checkpoints.latest(warn)
        return None if data is None else len(data)

    size = on_rank_zero(world, read, "reading a checkpoint")
    if size is None or world.size == 1:
        return data
    buffer = torch.empty(size, dtype=torch.uint8)
    if data is not None:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    world.broadcast(buffer, 0, "the checkpoint")
    return buffer.numpy().tobytes()


def copy_parameters(model: nn.Module, world: Communicator) -> None:
    """Give every rank the parameters of rank 0; collective."""
    if world.size == 1:
        return
    parameters = [parameter.detach() for parameter in model.parameters()]
    vector = nn.utils.parameters_to_vector(parameters)
    world.broadcast(vector, 0, "parameters of rank 0")
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, values in zip(parameters, torch.split(vector, sizes), strict=True):
        parameter.copy_(values.view_as(parameter))
