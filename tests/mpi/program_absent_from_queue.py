"""Run by four ranks that share two task queues: rank 0 of the one is away, rank 1 of the other.

The ranks that wait must say so, and end the job.
"""

import time

from mpi4py import MPI

from seqbraid.comm import TaskQueue, as_communicator
from seqbraid.errors import CommunicationError

WORLD = MPI.COMM_WORLD
pair = WORLD.Split(WORLD.rank // 2)
queue = TaskQueue(as_communicator(pair), 5)
if pair.rank == WORLD.rank // 2:
    time.sleep(60)
try:
    while not queue.finished:
        time.sleep(0.01)
        queue.exchange(1)
except CommunicationError as error:
    print(error, flush=True)
# Both have printed when either ends the job.
WORLD.sendrecv(None, 3 - WORLD.rank, source=3 - WORLD.rank)
time.sleep(1)  # the launcher must have read both before it is told to end the job
WORLD.Abort(7)
