"""What a caller passes to a recurrent module, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from seqbraid.cells import Cell

__all__ = ["as_list", "check_input", "initial_states", "pack_like"]


def check_input(x: Tensor, input_size: int, batch_first: bool, weight: Tensor) -> None:
    """Raise ValueError for a shape, TypeError for a type, dtype or device, that does not fit the module."""
    if x.dim() not in (2, 3) or x.shape[-1] != input_size:
        leading = "B, T" if batch_first else "T, B"
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected ({leading}, {input_size}), or without a batch "
            f"(T, {input_size})"
        )
    if x.dtype != weight.dtype or x.device != weight.device:
        raise TypeError(
            f"x is {x.dtype} on {x.device}, but the weights are {weight.dtype} on {weight.device}"
        )


def as_list(lengths: Tensor | Sequence[int] | None) -> list[int] | None:
    """Return lengths as a list; raises TypeError for what is no whole number."""
    if lengths is None:
        return None
    values = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise TypeError(f"lengths are {values!r}; expected one whole number for each sequence")
    return values


def initial_states(
    h0: Tensor | Sequence[Tensor] | None, batched: bool, x: Tensor, solves: int, cell: Cell
) -> Tensor:
    """Return the initial states of all solves (solves, B, S), a cell's states in a row; x is (T, B, I).

    Raises ValueError or TypeError for what a caller passed that does not fit.
    """
    sizes = cell.state_sizes
    if h0 is None:
        return x.new_zeros((solves, x.shape[1], sum(sizes)))
    states = [h0] if isinstance(h0, Tensor) else list(h0)
    if len(states) != len(sizes):
        raise ValueError(f"h0 has {len(states)} tensors; expected {len(sizes)}, one for each of the states")
    for state, size in zip(states, sizes, strict=True):
        expected = (solves, x.shape[1], size) if batched else (solves, size)
        if tuple(state.shape) != expected:
            raise ValueError(f"h0 has shape {tuple(state.shape)}; expected {expected}")
        if state.dtype != x.dtype or state.device != x.device:
            raise TypeError(f"h0 is {state.dtype} on {state.device}, but x is {x.dtype} on {x.device}")
        if not torch.isfinite(state).all():
            raise ValueError("h0 holds nan or inf")
    joined = states[0] if len(states) == 1 else torch.cat(states, dim=-1)
    return joined.reshape((solves, x.shape[1], sum(sizes)))


def pack_like(packed: PackedSequence, output: Tensor, sizes: Tensor, batch_first: bool) -> PackedSequence:
    """Pack an output of padded sequences with these lengths in the way of `packed`."""
    if packed.sorted_indices is not None:
        output = output.index_select(0 if batch_first else 1, packed.sorted_indices)
        sizes = sizes[packed.sorted_indices.cpu()]
    data = pack_padded_sequence(output, sizes, batch_first=batch_first).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
