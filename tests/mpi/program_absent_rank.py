"""Run by every rank: the last one leaves out a call, and the others must say so instead of waiting on.

It makes no module ("make"), or never calls the module's forward ("call").
"""

import sys
import time

import torch
from mpi4py import MPI

import seqbraid as sb
from seqbraid.errors import CommunicationError

world = MPI.COMM_WORLD
if world.rank == world.size - 1:
    if sys.argv[1] == "call":
        world.Idup()[1].Wait()  # what making the module does together
    time.sleep(60)
try:
    gru = sb.GRU(2, 3, comm=world)
    gru(torch.zeros(4, 1, 2))
except CommunicationError as error:
    print(error, flush=True)
    world.Abort(7)
