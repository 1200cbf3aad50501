"""One rank of a job that is kept: it makes the calls that the tests send, one after the other.

Started by `shared_ranks.py` as `mpiexec -n P python rank_server.py SOCKET FOLDER`. It waits for a call on the
socket and not in MPI, which would spin on a core.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import io
import os
import pickle
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

MEETING_S = 60.0
# Those of past calls: MPI may still write into their buffers.
_wrappers: list[Any] = []


@dataclass(frozen=True)
class Call:
    """A function and its arguments, pickled: `module` of the file `file` is imported before they are read."""

    pickled: bytes
    folder: str
    variables: dict[str, str]
    module: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Answer:
    """What one rank's call returned, or the traceback of its error, and what it wrote meanwhile."""

    value: Any
    error: str | None
    stdout: str
    stderr: str


class World:
    """Stands for MPI.COMM_WORLD among the arguments of a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _world, ()


def _world() -> Any:
    from mpi4py import MPI

    return MPI.COMM_WORLD


def main() -> None:
    """Serve until the tests close the connection."""
    address, folder = sys.argv[1:]
    import torch
    from mpi4py import MPI

    torch.set_num_threads(1)
    rank = MPI.COMM_WORLD.rank
    # No call knows this communicator.
    meeting = MPI.COMM_WORLD.Dup()
    files = [Path(folder) / f"{rank}.{name}" for name in ("out", "err")]
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2)
    with Client(address) as connection:
        connection.send((rank, os.getpid()))
        with contextlib.suppress(EOFError):
            while True:
                call = connection.recv()
                for path in files:
                    os.truncate(path, 0)
                value, error = None, None
                with _as_after_a_start(call):
                    try:
                        if call.file is not None:
                            _import(call.module, call.file)
                        function, arguments, named = pickle.loads(call.pickled)
                        value = function(*arguments, **named)
                        _meet(meeting)
                    except BaseException:
                        error = traceback.format_exc()
                sys.stdout.flush()
                sys.stderr.flush()
                connection.send(Answer(value, error, *(path.read_text(errors="replace") for path in files)))
    # Else the tests kill this process and clean up themselves.
    shutil.rmtree(folder, ignore_errors=True)


def _meet(ranks: Any) -> None:
    """Wait until each rank has made its call: a message may need its sender to arrive."""
    from mpi4py import MPI

    if MPI.Is_finalized():
        return  # as `seqbraid` does when all ranks fail; the tests give up the job then
    everyone, start = ranks.Ibarrier(), time.monotonic()
    while not everyone.Test():
        if time.monotonic() - start > MEETING_S:
            raise TimeoutError(f"this rank is done since {MEETING_S:.0f} s, another one is not")
        time.sleep(1e-3)


def _import(name: str | None, file: str) -> None:
    """Import a file of tests under the name that pytest has given it."""
    if name is None or name in sys.modules:
        return
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None
    assert specification.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(sys.modules[name])
    except BaseException:
        del sys.modules[name]
        raise


@contextlib.contextmanager
def _as_after_a_start(call: Call) -> Iterator[None]:
    """Make everything that a call may find changed what it is when a process starts, and restore it."""
    import numpy as np
    import torch
    from mpi4py import MPI

    from seqbraid.comm import mpi

    variables, words, search = dict(os.environ), sys.argv[:], sys.path[:]
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    for name in variables:
        if name.startswith("SEQBRAID_"):
            del os.environ[name]
    os.environ.update(call.variables)
    os.chdir(call.folder)
    # Not the same on each rank, as without a seed, but the same each time.
    torch.manual_seed(MPI.COMM_WORLD.rank)
    np.random.seed(MPI.COMM_WORLD.rank)
    random.seed(MPI.COMM_WORLD.rank)
    # A wrapped communicator has the time limit of its first use.
    if mpi._wrapper_key is not None and (wrapper := MPI.COMM_WORLD.Get_attr(mpi._wrapper_key)):
        _wrappers.append(wrapper)
        MPI.COMM_WORLD.Delete_attr(mpi._wrapper_key)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(variables)
        os.chdir("/")
        sys.argv[:], sys.path[:] = words, search
        for number, handler in signals.items():
            signal.signal(number, handler)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="strict")


if __name__ == "__main__":
    # Pickled calls name this module as the tests import it.
    import rank_server

    rank_server.main()
