"""How this process was started: alone, or as one rank of an MPI job."""

from __future__ import annotations

import os
from typing import Any

from seqbraid.comm.base import Communicator
from seqbraid.comm.mpi import MPICommunicator
from seqbraid.comm.single import SingleProcess
from seqbraid.errors import CommunicationError

__all__ = ["as_communicator", "launched_ranks", "world"]

# Set by MPICH and Intel MPI (PMI), by Open MPI, by Slurm's PMI-2 and PMIx plug-ins.
_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")


def launched_ranks() -> int:
    """Return the number of ranks that a launcher (`mpiexec`, `srun`) announced in the environment, else 1."""
    for name in _SIZE_VARIABLES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    # `srun` sets SLURM_PROCID for each task; `sbatch` scripts see SLURM_NTASKS without a step of their own.
    if "SLURM_STEP_NUM_TASKS" in os.environ and "PMIX_RANK" in os.environ:
        return int(os.environ["SLURM_STEP_NUM_TASKS"])
    return 1


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


def world() -> Communicator:
    """Return the communicator of the whole job; a process started without a launcher gets `SingleProcess`.

    Raises `CommunicationError` where a launcher announced several ranks but MPI is missing or is another
    implementation than the launcher's.
    """
    announced = launched_ranks()
    if announced == 1:
        return SingleProcess()
    mpi = _import_mpi()
    size = mpi.COMM_WORLD.Get_size()
    if size != announced:
        library = mpi.Get_library_version().split(",")[0].splitlines()[0].strip()
        raise CommunicationError(
            f"the launcher started {announced} ranks, but mpi4py's library ({library}) sees {size}: launcher "
            "and library belong to different MPIs; use the mpiexec of the same installation"
        )
    return MPICommunicator(mpi.COMM_WORLD)


def as_communicator(comm: Any) -> Communicator:
    """Wrap what a user passes as `comm`: None (one process), an `mpi4py` communicator, or a `Communicator`."""
    if comm is None:
        return SingleProcess()
    if hasattr(comm, "all_reduce") and hasattr(comm, "receive"):
        communicator: Communicator = comm
        return communicator
    if hasattr(comm, "Get_rank") and hasattr(comm, "Isend"):
        return MPICommunicator(comm)
    raise TypeError(f"comm is a {type(comm).__name__}; expected None, an mpi4py communicator or a Communicator")
