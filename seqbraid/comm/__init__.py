"""Communicators: a single process, and MPI."""

from seqbraid.comm.base import Communicator
from seqbraid.comm.launch import as_communicator, launched_ranks, world
from seqbraid.comm.mpi import MPICommunicator
from seqbraid.comm.single import SingleProcess

__all__ = ["Communicator", "MPICommunicator", "SingleProcess", "as_communicator", "launched_ranks", "world"]
