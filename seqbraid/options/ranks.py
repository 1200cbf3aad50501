"""How the ranks of a job share the work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import Whole

__all__ = ["RankOptions", "ThreadOptions"]

_of_grid = partial(
    option,
    group=Group("ranks", "S x D must be the ranks that were started. One of the two follows from the other."),
)


@documented
@dataclass(frozen=True)
class RankOptions:
    """The grid of the ranks."""

    sequence_ranks: int | None = _of_grid(
        None, Whole(1, 10**6), "ranks that share the steps of a sequence", metavar="S", unset="all"
    )
    data_ranks: int | None = _of_grid(
        None,
        Whole(1, 10**6),
        "groups of such ranks, which share the sequences of a batch",
        metavar="D",
        unset="1",
    )

    def __post_init__(self) -> None:
        check(self)


@documented
@dataclass(frozen=True)
class ThreadOptions:
    """What each rank takes of its machine."""

    threads: int | None = option(
        None,
        Whole(1, 4096),
        "OpenMP threads of each rank",
        metavar="N",
        unset="OMP_NUM_THREADS, else the machine's cores shared by its ranks",
    )

    def __post_init__(self) -> None:
        check(self)
