"""What the ranks tell one another at the beginning of a forward call, and the checks that need it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.comm import ProcessGrid
from seqbraid.mgrit import Partition

__all__ = ["Call", "agree_on_call"]


# What each rank tells of its slice.
_STEPS, _BATCH, _CHECKSUM, _LENGTHS, _SHORTEST, _AT_SHORTEST, _LONGEST, _AT_LONGEST, _SEED, _BAD = range(10)


@dataclass(frozen=True)
class Call:
    """A forward call: how the sequence is cut, and `valid` (local steps, B), None where all steps are.

    `seed` is rank 0's draw for what is random in this call; `padding_is_finite` tells that past the
    sequences' ends there is no nan or inf on any rank. This rank's sequences begin with `first_sequence` of
    the `sequences` of all groups.
    """

    partition: Partition
    valid: Tensor | None
    seed: int
    padding_is_finite: bool
    first_sequence: int
    sequences: int


def agree_on_call(
    grid: ProcessGrid,
    x: Tensor,
    batch: int,
    lengths: list[int] | None,
    multiple: int,
    draw_seed: bool,
    weights: Iterable[Tensor],
    h0: Tensor,
) -> Call:
    """Learn all ranks' slices x (T, B, I), and see to it that they are slices of one batch; collective.

    `batch` is B, or 0 where what x holds is to count for nothing. Raises ValueError, the same on every rank,
    for batches, lengths or h0 that differ within a group, weights that differ, slices not cut at a multiple
    of `multiple`, and nan or inf within the sequences.
    """
    world = grid.world
    # Drawn on every rank, so that torch's generators stay in step where they were.
    seed = int(torch.randint(2**62, ())) if draw_seed else 0
    row = torch.tensor([x.shape[0], batch, *_describe(lengths), seed, _bad_values(x)])
    if world.size > 1:
        # Sums as bit patterns, so that one message of whole numbers does.
        sums = torch.cat([_sums(weights), _sums([h0])])
        row = torch.cat([row, sums.view(torch.int64)])
    table = torch.zeros((world.size, len(row)), dtype=torch.int64)
    table[world.rank] = row
    world.all_reduce(table, "GRU: lengths of the ranks' slices")
    if world.size > 1:
        of_weights = table[:, -4:-2].contiguous().view(torch.float64)
        if (rank := _first_that_differs(of_weights)) is not None:
            raise ValueError(
                f"there are other weights on rank {rank} than on rank 0; make or load them in the same way "
                "on every rank, with the same torch.manual_seed before the module is made"
            )
    groups = table.view(grid.data.size, grid.sequence.size, -1)
    partitions = []
    for number, group in enumerate(groups):
        # All ranks look at all groups: an error that only some raise leaves the others waiting.
        try:
            partitions.append(_check_group(group, number * grid.sequence.size, grid.sequence.rank, multiple))
        except ValueError as error:
            raise ValueError(f"data group {number}: {error}" if len(groups) > 1 else str(error)) from None
    partition = partitions[grid.data.rank]
    batches = groups[:, 0, _BATCH].tolist()
    if not sum(batches):
        raise ValueError("there is no sequence on any rank; expected at least one")

    valid = _valid_steps(lengths, partition, x.device)
    bad = table[:, _BAD]
    padding_is_finite = not bad.any()
    if not padding_is_finite:
        if any(_is_padded(group, each.total) for group, each in zip(groups, partitions, strict=True)):
            # Most likely in the padding, where anything may be: look again, now that it is known.
            bad = torch.zeros(world.size, dtype=torch.int64)
            bad[world.rank] = _bad_values(x if valid is None else x[valid])
            world.all_reduce(bad, "GRU: search for nan and inf")
        for rank, count in enumerate(bad.tolist()):
            if count:
                where = f" on rank {rank}" if world.size > 1 else ""
                raise ValueError(
                    f"x holds {count} values{where} that are nan or inf; the solve was not started"
                )
    first_sequence = sum(batches[: grid.data.rank])
    return Call(partition, valid, int(table[0, _SEED]), padding_is_finite, first_sequence, sum(batches))


def _describe(lengths: list[int] | None) -> list[int]:
    """Return what the other ranks must know of the lengths, in the order of the columns; -1 for none."""
    if not lengths:
        return [0, -1 if lengths is None else 0, 0, 0, 0, 0]
    checksum = 1 + zlib.crc32(repr(lengths).encode())
    shortest, longest = min(lengths), max(lengths)
    places = lengths.index(shortest), lengths.index(longest)
    return [checksum, len(lengths), shortest, places[0], longest, places[1]]


def _check_group(group: Tensor, first_rank: int, place: int, multiple: int) -> Partition:
    """Return how a group's ranks (S, columns), the first of them `first_rank`, cut their sequences."""
    batches = group[:, _BATCH].tolist()
    if len(set(batches)) > 1:
        raise ValueError(f"the ranks were given batches of {batches} sequences; expected the same on each")
    if len(set(group[:, _CHECKSUM].tolist())) > 1:
        raise ValueError("the ranks were given different lengths; they are global, the same on each")
    if len(group) > 1:
        of_h0 = group[:, -2:].contiguous().view(torch.float64)
        if (rank := _first_that_differs(of_h0)) is not None:
            raise ValueError(
                f"there is another h0 on rank {first_rank + rank} than on rank {first_rank}; expected the "
                "same on each"
            )
    partition = Partition.from_lengths(group[:, _STEPS].tolist(), place, multiple)
    row = group[0].tolist()
    if row[_LENGTHS] >= 0:
        if row[_LENGTHS] != row[_BATCH]:
            raise ValueError(f"{row[_LENGTHS]} lengths were given for {row[_BATCH]} sequences")
        for length, sequence in ((row[_SHORTEST], row[_AT_SHORTEST]), (row[_LONGEST], row[_AT_LONGEST])):
            if row[_LENGTHS] and not 1 <= length <= partition.total:
                raise ValueError(
                    f"the length of sequence {sequence} is {length}; expected 1 to {partition.total} steps"
                )
    return partition


def _is_padded(group: Tensor, total: int) -> bool:
    return bool(group[0, _LENGTHS] > 0 and group[0, _SHORTEST] < total)


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


def _valid_steps(lengths: list[int] | None, partition: Partition, device: torch.device) -> Tensor | None:
    """Return (local steps, B), true within each sequence; None where every sequence has all steps."""
    if not lengths or min(lengths) == partition.total:
        return None
    steps = torch.arange(partition.start, partition.start + partition.steps, device=device)
    return steps.unsqueeze(1) < torch.tensor(lengths, device=device)
