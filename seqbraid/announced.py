"""What a launcher (`mpiexec`, `srun`) announced to this process in its environment; imports nothing heavy."""

from __future__ import annotations

import os

__all__ = ["RANKS", "first_number", "launched_rank", "launched_ranks", "local_place"]

# Open MPI's own variables first: under Slurm the others may be set for the step around it. PMI's are those
# of MPICH, Intel MPI and Slurm's PMI-2; with PMIx, Slurm tells the size of a step only in its own variable.
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")


def launched_rank() -> int:
    """Return this process's rank, 0 where no launcher announced one."""
    return first_number(RANKS) or 0


def launched_ranks() -> int:
    """Return the number of ranks of the job, 1 where no launcher announced it."""
    in_slurm_step = ("SLURM_STEP_NUM_TASKS",) if "PMIX_RANK" in os.environ else ()
    return first_number(_SIZES + in_slurm_step) or 1


def local_place() -> tuple[int | None, int | None]:
    """Return which of this machine's ranks this is, and how many it has; None where that is not announced."""
    return first_number(_LOCAL_RANKS), first_number(_LOCAL_SIZES)


def first_number(names: tuple[str, ...]) -> int | None:
    """Return the first of these variables that is a number."""
    values = (os.environ.get(name, "") for name in names)
    return next((int(value) for value in values if value.isdigit()), None)
