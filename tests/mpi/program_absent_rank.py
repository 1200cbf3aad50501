"""Run by every rank: the last one never calls forward, and the others must say so instead of waiting on."""

import time

import torch
from mpi4py import MPI

import seqbraid as sb
from seqbraid.errors import CommunicationError

world = MPI.COMM_WORLD
if world.rank == world.size - 1:
    world.Dup()  # the module's own set-up is collective; the calls after it are what is left out
    time.sleep(60)
gru = sb.GRU(2, 3, comm=world)
try:
    gru(torch.zeros(4, 1, 2))
except CommunicationError as error:
    print(error, flush=True)
    world.Abort(7)
