"""A rank's process in two: a small parent that watches, and the child that does the work.

A process that SIGKILL or SIGSEGV ends cannot say so, and MPI's own message names a process, not a rank. The
parent can: it says which rank was ended by what, before MPI does.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
from pathlib import Path
from typing import NoReturn

from seqbraid.announced import launched_rank, launched_ranks
from seqbraid.launching.child import die_with_parent, end_as, fork_tied, wait_for_child
from seqbraid.launching.heard import wait_until_heard
from seqbraid.launching.memory_kills import memory_kills

__all__ = ["CARRIED", "CARRIED_SIGNALS", "watch"]

# Open MPI's mpiexec kills the ranks a moment after SIGTERM or SIGINT, and hands these others on. The variable
# tells the ranks of `seqbraid launch` what they stand for.
CARRIED = {signal.SIGTERM: signal.SIGUSR2, signal.SIGINT: signal.SIGALRM}
CARRIED_SIGNALS = "SEQBRAID_CARRIED_SIGNALS"

# The watching process, and its file, for what the rank's first program becomes.
_WATCHED = "SEQBRAID_WATCHED"

# Those that start ranks on a machine, as the kernel names them. Others may not be the parent of a rank for
# its whole life.
_STARTERS = ("hydra_pmi_proxy", "prterun", "prted", "orted", "mpirun", "mpiexec")


def watch() -> int | None:
    """Go on as the child; return the descriptor of a file for its last words, None where nobody watches.

    In a job of several ranks on Linux this forks, once for a rank, and the parent never returns. What the
    child leaves in the file is said after the line on its end.
    """
    watcher, _, file = os.environ.get(_WATCHED, "").partition(":")
    if watcher == str(os.getppid()):
        return int(file)
    if launched_ranks() == 1 or sys.platform != "linux":
        return None
    starter = _name_of_parent()
    if starter in _STARTERS:
        die_with_parent()
    last_words = os.memfd_create("last words", flags=0)  # stays open when the child becomes another program
    kills = memory_kills()
    child = fork_tied()
    if child != 0:
        _end_with(child, kills, last_words, starter)
    os.environ[_WATCHED] = f"{os.getppid()}:{last_words}"
    return last_words


def _end_with(child: int, kills: int, last_words: int, starter: str) -> NoReturn:
    """Wait for the child, say what ended it, and end as it did."""
    meanings = {carrier: meant for meant, carrier in CARRIED.items() if os.environ.get(CARRIED_SIGNALS)}
    handed_on = set()

    def hand_on(number: signal.Signals | None) -> None:
        if number is not None:
            meant = meanings.get(number, number)
            handed_on.add(meant)
            os.kill(child, meant)

    status = wait_for_child(child, hand_on)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and -code not in handed_on:
        who = f"rank {launched_rank()}: process {child} on {platform.node()}"
        _write(
            f"{who} was ended by {_describe(-code, memory_kills() > kills)}\n".encode() + _read(last_words)
        )
    if code != 0:
        # What the rank has started is in the child's session, where no launcher looks for it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        wait_until_heard(2)  # standard error
    if code > 0 and starter == "hydra_pmi_proxy":
        _end_job_of_mpich(code)
    end_as(status)


def _describe(number: int, memory_ran_out: bool) -> str:
    """Return in words which signal ended a process, and what that may mean."""
    named = number in set(signal.Signals)
    text = f"signal {number} ({signal.Signals(number).name})" if named else f"signal {number}"
    if number != signal.SIGKILL:
        return text
    cause = "since memory ran out" if memory_ran_out else "as the system does when memory runs out"
    return f"{text}, {cause}; a smaller batch, fewer features or more ranks need less"


def _end_job_of_mpich(code: int) -> None:
    """Tell MPICH's launcher to end the job, as MPI_Abort does.

    Left to itself, it lets the others wait in MPI_Init for a rank that ended before.
    """
    with contextlib.suppress(OSError, KeyError, ValueError):
        os.write(int(os.environ["PMI_FD"]), f"cmd=abort exitcode={code}\n".encode())


def _name_of_parent() -> str:
    try:
        return Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    with os.fdopen(file, "rb") as stream:
        return stream.read()


def _write(text: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, text)
