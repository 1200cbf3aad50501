"""What the ranks tell one another at the beginning of a forward call, and the checks that need it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.comm import Communicator
from seqbraid.mgrit import Partition

__all__ = ["Call", "agree_on_call"]


@dataclass(frozen=True)
class Call:
    """A forward call: how the sequence is cut, and `valid` (local steps, B), None where all steps are.

    `seed` is rank 0's draw for what is random in this call; `padding_is_finite` tells that past the
    sequences' ends there is no nan or inf on any rank.
    """

    partition: Partition
    valid: Tensor | None
    seed: int
    padding_is_finite: bool


def agree_on_call(
    communicator: Communicator,
    x: Tensor,
    lengths: list[int] | None,
    multiple: int,
    draw_seed: bool,
    weights: Iterable[Tensor],
    h0: Tensor,
) -> Call:
    """Learn all ranks' slices x (T, B, I), and see to it that they are slices of one batch; collective.

    Raises ValueError, the same on every rank, for batches, lengths, weights or h0 that differ, slices not cut
    at a multiple of `multiple`, and nan or inf within the sequences.
    """
    batch = x.shape[1]
    checksum = 0 if lengths is None else 1 + zlib.crc32(repr(lengths).encode())
    # Drawn on every rank, so that torch's generators stay in step where they were.
    seed = int(torch.randint(2**62, ())) if draw_seed else 0
    row = torch.tensor([x.shape[0], batch, checksum, seed, _bad_values(x)])
    if communicator.size > 1:
        # Sums as bit patterns, so that one message of whole numbers does.
        sums = torch.cat([_sums(weights), _sums([h0])])
        row = torch.cat([row, sums.view(torch.int64)])
    table = torch.zeros((communicator.size, len(row)), dtype=torch.int64)
    table[communicator.rank] = row
    communicator.all_reduce(table, "GRU: lengths of the ranks' slices")
    slices, batches, checksums, seeds, bad = table[:, :5].t().tolist()
    if len(set(batches)) > 1:
        raise ValueError(f"the ranks were given batches of {batches} sequences; expected the same on each")
    if len(set(checksums)) > 1:
        raise ValueError("the ranks were given different lengths; they are global, the same on each")
    if communicator.size > 1:
        of_weights, of_h0 = torch.split(table[:, 5:].contiguous().view(torch.float64), 2, dim=1)
        if (rank := _first_that_differs(of_weights)) is not None:
            raise ValueError(
                f"there are other weights on rank {rank} than on rank 0; make or load them in the same way "
                "on every rank, with the same torch.manual_seed before the module is made"
            )
        if (rank := _first_that_differs(of_h0)) is not None:
            raise ValueError(f"there is another h0 on rank {rank} than on rank 0; expected the same on each")
    partition = Partition.from_lengths(slices, communicator, multiple)
    valid = _valid_steps(lengths, batch, partition, x.device)
    padding_is_finite = not any(bad)
    if not padding_is_finite:
        if valid is not None:
            # Most likely in the padding, where anything may be: look again, now that it is known.
            counts = torch.zeros(communicator.size, dtype=torch.int64)
            counts[communicator.rank] = _bad_values(x[valid])
            bad = communicator.all_reduce(counts, "GRU: search for nan and inf").tolist()
        for rank, count in enumerate(bad):
            if count:
                where = f" on rank {rank}" if communicator.size > 1 else ""
                raise ValueError(
                    f"x holds {count} values{where} that are nan or inf; the solve was not started"
                )
    return Call(partition, valid, seeds[0], padding_is_finite)


def _sums(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of all values and that of their magnitudes (2,), in float64 on the CPU."""
    values = [tensor.detach() for tensor in tensors]
    plain = torch.stack([value.sum(dtype=torch.float64) for value in values]).sum()
    magnitudes = torch.stack([value.abs().sum(dtype=torch.float64) for value in values]).sum()
    return torch.stack([plain, magnitudes]).cpu()


def _first_that_differs(sums: Tensor) -> int | None:
    """Return the first rank whose sums (P, 2) are not those of rank 0, but for what rounding explains."""
    differs = (sums - sums[0]).abs().amax(dim=1) > 1e-4 * sums[0, 1]
    return int(differs.nonzero()[0]) if bool(differs.any()) else None


def _bad_values(x: Tensor) -> int:
    # The sum is finite unless some value is not (or it overflows): one cheap pass where all is well.
    if torch.isfinite(x.detach().sum()):
        return 0
    return int((~torch.isfinite(x)).sum())


def _valid_steps(
    lengths: list[int] | None, batch: int, partition: Partition, device: torch.device
) -> Tensor | None:
    """Return (local steps, B), true within each sequence; None where every sequence has all steps."""
    if lengths is None:
        return None
    if len(lengths) != batch:
        raise ValueError(f"{len(lengths)} lengths were given for {batch} sequences")
    for sequence, length in enumerate(lengths):
        if not 1 <= length <= partition.total:
            raise ValueError(
                f"the length of sequence {sequence} is {length}; expected 1 to {partition.total} steps"
            )
    if min(lengths) == partition.total:
        return None
    steps = torch.arange(partition.start, partition.start + partition.steps, device=device)
    return steps.unsqueeze(1) < torch.tensor(lengths, device=device)
