"""The program that `seqbraid launch` becomes: starts mpiexec, hands signals on to it, and ends as it does.

    python -m seqbraid.launching.supervise -- mpiexec -n 2 python script.py

SIGTERM, SIGINT and SIGHUP ask the ranks to end, and they have a minute for it. mpiexec, and with it every
rank, is killed when that is over, at a second SIGINT, and when this process is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence

from seqbraid.launching.child import end_as, fork_tied, wait_for_child
from seqbraid.launching.watch import CARRIED

__all__ = ["main"]

_TIME_TO_END_S = 60.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the command after `--` and end as it does."""
    parser = argparse.ArgumentParser(
        prog="python -m seqbraid.launching.supervise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--carried", action="store_true", help="mpiexec hands on no SIGTERM and no SIGINT")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    child = fork_tied()
    if child == 0:
        os.execvp(command[0], command)
    asked: set[signal.Signals] = set()

    def act(number: signal.Signals | None) -> float | None:
        if number == signal.SIGUSR1:
            os.kill(child, number)
        elif number is None or (number == signal.SIGINT and number in asked):
            os.kill(child, signal.SIGKILL)
        elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            first = not asked
            asked.add(number)
            meant = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
            os.kill(child, CARRIED[meant] if options.carried else meant)
            return _TIME_TO_END_S if first else None
        return None

    end_as(wait_for_child(child, act))


if __name__ == "__main__":
    main()
