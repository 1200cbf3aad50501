"""`seqbraid ARGUMENTS...` in which one rank meets a fault, as SEQBRAID_TEST_FAULT=KIND:PLACE:RANK:CALL says.

RANK may be `all`. `launch` starts ranks that are this program in turn.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqbraid.cli import main, train
from seqbraid.errors import DataError
from seqbraid.launching import planning

RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
GIGABYTES = 10**9


def rank() -> int:
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)


def raise_error() -> None:
    raise RuntimeError("an injected error")


def raise_data_error() -> None:
    raise DataError("an injected DataError")


def raise_later() -> None:
    """Stay away longer than the others wait, and find an error of its own then."""
    time.sleep(4)
    raise RuntimeError("a later error")


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run")


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIGABYTES // 10
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def numpy_memory() -> None:
    import numpy as np

    limit_memory()
    np.ones(GIGABYTES)


def torch_memory() -> None:
    import torch

    limit_memory()
    torch.ones(GIGABYTES)


def numba_memory() -> None:
    import numba
    import numpy as np

    allocate = numba.njit(lambda size: np.empty(size).sum())
    allocate(1)
    limit_memory()
    allocate(GIGABYTES)


def raise_in_thread() -> None:
    thread = threading.Thread(target=raise_error)
    thread.start()
    thread.join()
    time.sleep(60)


def warn_of_itself() -> None:
    warnings.warn(f"only rank {rank()} says this", UserWarning, stacklevel=1)


def warn_alike() -> None:
    warnings.warn("every rank says this", UserWarning, stacklevel=1)


def warn_and_raise() -> None:
    warn_of_itself()
    raise_error()


KINDS: dict[str, Callable[[], Any]] = {
    "error": raise_error,
    "data": raise_data_error,
    "later": raise_later,
    "full": full_disk,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "bus": lambda: os.kill(os.getpid(), signal.SIGBUS),
    "abort": os.abort,
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "exit": lambda: sys.exit(5),
    "exit0": lambda: sys.exit(0),
    "numpy": numpy_memory,
    "torch": torch_memory,
    "numba": numba_memory,
    "thread": raise_in_thread,
    "busy": lambda: sum(range(10**10)),  # in the interpreter, for minutes, without MPI
    "sleep": lambda: time.sleep(60),
    "warn": warn_of_itself,
    "alike": warn_alike,
    "warn+error": warn_and_raise,
}


def spoil(model: Any) -> None:
    model.head.bias.data.fill_(float("nan"))


def remember(model: Any) -> None:
    """Let the update gates keep the state for long: some coarse propagators diverge then."""
    model.gru.bias_ih_l0.data[model.gru.hidden_size : 2 * model.gru.hidden_size] = 2.0


KINDS_OF_WEIGHTS: dict[str, Callable[[Any], None]] = {"nan": spoil, "remember": remember}


def strike(kind: str) -> Callable[[], None]:
    """Return the fault, which leaves the time at which it struck in a file."""

    def fault() -> None:
        if "SEQBRAID_TEST_STRUCK" in os.environ and kind not in ("busy", "later"):
            Path(os.environ["SEQBRAID_TEST_STRUCK"]).write_text(str(time.time()))
        KINDS[kind]()

    return fault


def at_call(number: int, fault: Callable[[], Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original` with the fault before its call `number`, counted from 1."""
    calls = 0

    def faulty(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            fault()
        return original(*arguments, **named)

    return faulty


def inject(kind: str, place: str, call: int) -> None:
    """Put the fault into this process; `place` is start, weights, forward, backward, write or end."""
    import torch

    from seqbraid.train import SequenceClassifier

    if place == "weights":
        untouched = SequenceClassifier.forward
        calls = 0

        def with_other_weights(model: Any, *arguments: Any, **named: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == call:
                KINDS_OF_WEIGHTS[kind](model)
            return untouched(model, *arguments, **named)

        SequenceClassifier.forward = with_other_weights
        return
    fault = strike(kind)
    if place == "write":
        os.replace = at_call(call, fault, os.replace)
    elif place == "forward":
        SequenceClassifier.forward = at_call(call, fault, SequenceClassifier.forward)
    elif place == "backward":

        class FaultInBackward(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
                return value.clone()

            @staticmethod
            def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
                fault()
                return gradient

        original, counted = SequenceClassifier.forward, at_call(call, lambda: None, lambda: None)

        def forward(*arguments: Any, **named: Any) -> torch.Tensor:
            counted()
            return FaultInBackward.apply(original(*arguments, **named))

        SequenceClassifier.forward = forward


def run(options: argparse.Namespace) -> None:
    """Run `train` with the faults that are for this rank."""
    at_ends = {}
    for text in os.environ["SEQBRAID_TEST_FAULT"].split(","):
        kind, place, who, call = text.split(":")
        if who not in (str(rank()), "all"):
            continue
        if place in ("start", "end"):
            at_ends[place] = strike(kind)
        else:
            inject(kind, place, int(call))
    if "start" in at_ends:
        at_ends["start"]()
    original_run(options)
    if "end" in at_ends:
        at_ends["end"]()


original_run = train.run
train.run = run
planning._command_of_ranks = lambda words: [sys.executable, __file__, *words[words[:1] == ["--"] :]]

if __name__ == "__main__":
    sys.exit(main.main())
