"""Communicators: a single process, MPI, simulated ranks; and ranks as a grid."""

from seqbraid.comm.base import Communicator, Pending
from seqbraid.comm.buffers import sum_in_one_message
from seqbraid.comm.mpi import MPICommunicator
from seqbraid.comm.process_grid import ProcessGrid, as_grid
from seqbraid.comm.rank_zero import on_rank_zero
from seqbraid.comm.simulated import SimulatedWorld
from seqbraid.comm.single import SingleProcess
from seqbraid.comm.task_queue import TaskQueue
from seqbraid.comm.world import (
    as_communicator,
    launched_rank,
    launched_ranks,
    rank_and_size,
    ranks_on_this_machine,
    speaks_for_this_machine,
    started_mpi,
    world,
)

__all__ = [
    "Communicator",
    "MPICommunicator",
    "Pending",
    "ProcessGrid",
    "SimulatedWorld",
    "SingleProcess",
    "TaskQueue",
    "as_communicator",
    "as_grid",
    "launched_rank",
    "launched_ranks",
    "on_rank_zero",
    "rank_and_size",
    "ranks_on_this_machine",
    "speaks_for_this_machine",
    "started_mpi",
    "sum_in_one_message",
    "world",
]
