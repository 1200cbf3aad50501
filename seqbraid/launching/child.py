"""A child process that ends with its parent, and signals that are handed on to it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

__all__ = ["HANDED_ON", "die_with_parent", "end_as", "fork_tied", "wait_for_child"]

HANDED_ON = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM}
)

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent is gone; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def fork_tied() -> int:
    """Fork and return the child's number in the parent, 0 in the child, which dies when the parent is gone.

    The child leads a session of its own: what a terminal or a launcher sends to the whole group of the
    parent reaches it once, when the parent hands it on. In the parent those signals are held back for
    `wait_for_child`.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ignored = {number for number in HANDED_ON if signal.getsignal(number) is signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (HANDED_ON - ignored) | {signal.SIGCHLD})
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setsid()
        die_with_parent()
        if os.getppid() != parent:
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return child


def wait_for_child(child: int, act: Callable[[signal.Signals | None], float | None]) -> int:
    """Wait until the child ends, and return its wait status.

    `act` is called with each signal that comes. A number that it returns is in how many seconds it is
    called with None.
    """
    deadline: float | None = None
    while True:
        seconds = 3600.0 if deadline is None else max(0.0, deadline - time.monotonic())
        come = signal.sigtimedwait(HANDED_ON | {signal.SIGCHLD}, seconds)
        if come is not None and come.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
        elif come is not None or deadline is not None:
            if come is None:
                deadline = None
            wanted = act(None if come is None else signal.Signals(come.si_signo))
            if wanted is not None:
                deadline = time.monotonic() + wanted


def end_as(status: int) -> NoReturn:
    """End this process as the child with this wait status did: by the same signal, or exit code."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left its core already
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
