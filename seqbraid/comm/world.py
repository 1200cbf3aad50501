"""How this process was started: alone, or as one rank of an MPI job."""

from __future__ import annotations

import os
import sys
from typing import Any

from seqbraid.announced import RANKS, first_number, launched_rank, launched_ranks, local_place
from seqbraid.comm.base import Communicator
from seqbraid.comm.mpi import wrap_mpi
from seqbraid.comm.single import SingleProcess
from seqbraid.errors import CommunicationError

__all__ = [
    "as_communicator",
    "launched_rank",
    "launched_ranks",
    "rank_and_size",
    "ranks_on_this_machine",
    "speaks_for_this_machine",
    "started_mpi",
    "world",
]


def ranks_on_this_machine() -> int:
    """Return how many ranks of the job share this machine, by the launcher's word; else all of them."""
    return max(1, local_place()[1] or launched_ranks())


def speaks_for_this_machine() -> bool:
    """Return whether this is the first of the job's ranks on its machine, by the launcher's word."""
    local_rank = local_place()[0]
    return launched_ranks() == 1 or (launched_rank() if local_rank is None else local_rank) == 0


def _import_mpi() -> Any:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommunicationError(
            f"this job has {launched_ranks()} ranks, but mpi4py finds no MPI library ({first_line}); "
            "install one into this environment with pip install 'seqbraid[mpich]', or load the system's"
        ) from error
    return MPI


def started_mpi() -> Any:
    """Return mpi4py's `MPI` where it runs and connects the ranks of this job, else None; starts nothing."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return None
    return mpi if mpi.COMM_WORLD.Get_size() == launched_ranks() > 1 else None


def world() -> Communicator:
    """Return the communicator of the whole job; a process started without a launcher gets `SingleProcess`.

    Raises `CommunicationError` where a launcher announced several ranks but MPI is missing or is another
    implementation than the launcher's, or where `srun` started several processes and told none its rank.
    """
    announced = launched_ranks()
    if announced == 1:
        tasks = first_number(("SLURM_STEP_NUM_TASKS",)) or 1
        if tasks > 1 and not any(name in os.environ for name in RANKS):
            raise CommunicationError(
                f"srun started {tasks} processes and told none its rank, so each would run alone; add "
                "--mpi=pmi2 for MPICH, --mpi=pmix for Open MPI, or take seqbraid launch"
            )
        return SingleProcess()
    mpi = _import_mpi()
    size = mpi.COMM_WORLD.Get_size()
    if size != announced:
        library = mpi.Get_library_version().split(",")[0].splitlines()[0].strip()
        raise CommunicationError(
            f"the launcher started {announced} ranks, but mpi4py's library ({library}) sees {size}: launcher "
            "and library belong to different MPIs; use the mpiexec of the same installation"
        )
    return wrap_mpi(mpi.COMM_WORLD)


def rank_and_size(comm: Any) -> tuple[int, int]:
    """Return this rank and the number of ranks of what a user passes as `comm`; not collective."""
    if hasattr(comm, "Get_rank") and hasattr(comm, "Get_size"):
        return int(comm.Get_rank()), int(comm.Get_size())
    communicator = as_communicator(comm)
    return communicator.rank, communicator.size


def as_communicator(comm: Any) -> Communicator:
    """Wrap what a user passes as `comm`: None for one process, an `mpi4py` communicator, a `Communicator`."""
    if comm is None:
        return SingleProcess()
    if hasattr(comm, "all_reduce") and hasattr(comm, "receive"):
        communicator: Communicator = comm
        return communicator
    if hasattr(comm, "Get_rank") and hasattr(comm, "Isend"):
        return wrap_mpi(comm)
    raise TypeError(
        f"comm is a {type(comm).__name__}; expected None, an mpi4py communicator or a Communicator"
    )
