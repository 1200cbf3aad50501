"""What the ranks tell one another at the beginning of a forward call, and the checks that need it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.mgrit import Partition

__all__ = ["Call", "agree_on_call"]


# What each rank tells of its slice.
_STEPS, _BATCH, _CHECKSUM, _LENGTHS, _SHORTEST, _AT_SHORTEST, _LONGEST, _AT_LONGEST = range(8)
_SEED, _BAD, _REFUSED, _FIRST_OF_SAME = range(8, 12)


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
    same: Mapping[str, object],
    refused: str = "",
) -> Call:
    """Learn all ranks' slices x (T, B, I), and see to it that they are slices of one batch; collective.

    `batch` is B, or 0 where what x holds is to count for nothing. `same` are things that must be the same on
    all ranks, by their names in errors, compared by what they look like in text. `refused` says what this
    rank cannot take, "" for nothing. Raises ValueError, on every rank, for that, for batches, lengths or h0
    that differ within a group, weights or `same` that differ, slices not cut at a multiple of `multiple`, and
    nan or inf within the sequences.
    """
    world = grid.world
    # Drawn on every rank, so that torch's generators stay in step where they were.
    seed = int(torch.randint(2**62, ())) if draw_seed else 0
    several = world.size > 1
    checksums = [zlib.crc32(repr(value).encode()) for value in same.values()] if several else []
    row = [x.shape[0], batch, *_describe(lengths), seed, _bad_values(x), int(bool(refused)), *checksums]
    rows = [row]
    of_h0 = None
    if several:
        rows, of_weights, of_h0 = _exchange(world, row, _sums(weights), _sums([h0]))
        for number, name in enumerate(same, _FIRST_OF_SAME):
            for other, each in enumerate(rows):
                if each[number] != rows[0][number]:
                    raise ValueError(f"there is another {name} on rank {other} than on rank 0")
        if (rank := _first_that_differs(of_weights)) is not None:
            raise ValueError(
                f"there are other weights on rank {rank} than on rank 0; make or load them in the same way "
                "on every rank, with the same torch.manual_seed before the module is made"
            )
    for other, each in enumerate(rows):
        if each[_REFUSED]:
            raise ValueError(refused or f"what rank {other} was given does not fit; its own error says why")
    S = grid.sequence.size
    # All ranks look at all groups: an error that only some raise leaves the others waiting.
    groups = [slice(first, first + S) for first in range(0, world.size, S)]
    partitions = []
    for number, group in enumerate(groups):
        try:
            partitions.append(_check_group(rows[group], grid.sequence.rank, multiple))
            if of_h0 is not None and (rank := _first_that_differs(of_h0[group])) is not None:
                differ = f"on rank {group.start + rank} than on rank {group.start}"
                raise ValueError(f"there is another h0 {differ}; expected the same on each")
        except ValueError as error:
            raise ValueError(f"data group {number}: {error}" if len(groups) > 1 else str(error)) from None
    batches = [rows[group.start][_BATCH] for group in groups]
    if not sum(batches):
        raise ValueError("there is no sequence on any rank; expected at least one")
    own = grid.data.rank
    valid = _valid_steps(lengths, partitions[own], x.device)
    bad = [row[_BAD] for row in rows]
    if any(bad):
        padded = any(
            rows[group.start][_LENGTHS] > 0 and rows[group.start][_SHORTEST] < partition.total
            for group, partition in zip(groups, partitions, strict=True)
        )
        _check_finite(world, x, valid, bad, padded)
    return Call(partitions[own], valid, rows[0][_SEED], not any(bad), sum(batches[:own]), sum(batches))


def _check_finite(world: Communicator, x: Tensor, valid: Tensor | None, bad: list[int], padded: bool) -> None:
    """Raise for nan and inf within the sequences; `bad` counts those of each rank, padding included."""
    if padded:
        # Most likely in the padding, where anything may be: look again, now that it is known.
        counts = torch.zeros(world.size, dtype=torch.int64)
        counts[world.rank] = _bad_values(x if valid is None else x[valid])
        bad = world.all_reduce(counts, "a forward call: search for nan and inf").tolist()
    for rank, count in enumerate(bad):
        if count:
            where = f" on rank {rank}" if world.size > 1 else ""
            raise ValueError(f"x holds {count} values{where} that are nan or inf; the solve was not started")


def _describe(lengths: list[int] | None) -> list[int]:
    """Return what the other ranks must know of the lengths, in the order of the columns; -1 for none."""
    if lengths is None:
        return [0, -1, 0, 0, 0, 0]
    checksum = 1 + zlib.crc32(repr(lengths).encode())
    if not lengths:
        return [checksum, 0, 0, 0, 0, 0]
    shortest, longest = min(lengths), max(lengths)
    places = lengths.index(shortest), lengths.index(longest)
    return [checksum, len(lengths), shortest, places[0], longest, places[1]]


def _exchange(
    world: Communicator, row: list[int], of_weights: Tensor, of_h0: Tensor
) -> tuple[list[list[int]], Tensor, Tensor]:
    """Return all ranks' rows, sums of weights and sums of h0 (P, 2), by one message."""
    # Sums as bit patterns, so that one message of whole numbers does.
    sums = torch.cat([of_weights, of_h0]).view(torch.int64)
    table = torch.zeros((world.size, len(row) + len(sums)), dtype=torch.int64)
    table[world.rank] = torch.cat([torch.tensor(row), sums])
    world.all_reduce(table, "a forward call: lengths of the ranks' slices")
    everyones = table[:, len(row) :].contiguous().view(torch.float64)
    return table[:, : len(row)].tolist(), everyones[:, :2], everyones[:, 2:]


def _check_group(rows: list[list[int]], place: int, multiple: int) -> Partition:
    """Return how a group's ranks cut their sequences, as the one at `place` sees it."""
    batches = [row[_BATCH] for row in rows]
    if len(set(batches)) > 1:
        raise ValueError(f"the ranks were given batches of {batches} sequences; expected the same on each")
    if len({row[_CHECKSUM] for row in rows}) > 1:
        raise ValueError("the ranks were given different lengths; they are global, the same on each")
    partition = Partition.from_lengths([row[_STEPS] for row in rows], place, multiple)
    first = rows[0]
    if first[_LENGTHS] >= 0 and first[_LENGTHS] != first[_BATCH]:
        raise ValueError(f"{first[_LENGTHS]} lengths were given for {first[_BATCH]} sequences")
    for length, sequence in (
        (first[_SHORTEST], first[_AT_SHORTEST]),
        (first[_LONGEST], first[_AT_LONGEST]),
    ):
        if first[_LENGTHS] > 0 and not 1 <= length <= partition.total:
            raise ValueError(
                f"the length of sequence {sequence} is {length}; expected 1 to {partition.total} steps"
            )
    return partition


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
