"""What a launcher told this process in its environment, without importing torch as `seqbraid.comm` does."""

from __future__ import annotations

import os

__all__ = ["RANKS", "first_number", "local_place", "rank_of_process", "ranks_of_job"]

# Those of `seqbraid.comm.launch`.
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


def rank_of_process() -> int:
    """Return this process's rank, 0 where no launcher told one."""
    return first_number(RANKS) or 0


def ranks_of_job() -> int:
    """Return the number of ranks of the job, 1 where no launcher told it."""
    in_slurm_step = ("SLURM_STEP_NUM_TASKS",) if "PMIX_RANK" in os.environ else ()
    return first_number(_SIZES + in_slurm_step) or 1


def local_place() -> tuple[int | None, int | None]:
    """Return which of this machine's ranks this is, and how many it has."""
    return first_number(_LOCAL_RANKS), first_number(_LOCAL_SIZES)


def first_number(names: tuple[str, ...]) -> int | None:
    """Return the first of these variables that is a number."""
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdigit()), None)
