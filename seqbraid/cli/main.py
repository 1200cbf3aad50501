"""The `seqbraid` command: picks the subcommand and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from seqbraid import __version__
from seqbraid.announced import launched_rank
from seqbraid.cli.errors import explain
from seqbraid.cli.flags import in_flags, near_flag
from seqbraid.errors import CommunicationError
from seqbraid.launching.endings import end_job, end_job_from_thread, gather_warnings_at_end, running_mpi
from seqbraid.launching.watch import watch
from seqbraid.messages import messages_shown, warnings_in_one_line

# Each subcommand is a module with HELP, `add_arguments(parser)` and `run(options)`; its docstring teaches.
_COMMANDS = (
    "preprocess",
    "train",
    "evaluate",
    "predict",
    "verify",
    "bench",
    "plot",
    "compare",
    "launch",
    "info",
)

_EPILOG = """\
examples:
  python -m preprocess.figures videos/    # small clips to try it with; yours go into videos/CLASS/CLIP.avi
  seqbraid preprocess videos/ features/ --backbone resnet18
  seqbraid launch -n 4 -- train features/ --cell implicit --solver mgrit --coarsening 4 --output run/
  seqbraid evaluate run/ features/
  seqbraid predict run/ videos/run_left/run_left_000.avi

Run `seqbraid COMMAND --help` for the options of one command.

environment:
  OMP_NUM_THREADS      threads of each rank, where --threads does not say
  SEQBRAID_TIME_LIMIT  seconds that a rank waits for another before it gives up (default: 600)
  SEQBRAID_TRACEBACK   set to 1, errors come with Python's traceback; for reports of defects

exit codes: 0 done, 1 refused by the system, 2 bad options or data, 3 training diverged, 4 no weights"""


class _Parser(argparse.ArgumentParser):
    """Says what it has to say from rank 0 alone, and errors in one line."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if launched_rank() == 0:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        self.exit(end_job(self.prog, f"error: {message}; see {self.prog} --help", 2))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    from seqbraid.cli.arguments import add_subcommand

    parser = _Parser(
        prog="seqbraid",
        description="Train recurrent networks in parallel along the sequence.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seqbraid {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        # Not before the rank is watched: what cannot be imported on one machine alone has to end the job too.
        module = importlib.import_module(f"seqbraid.cli.{name}")
        add_subcommand(commands, name, module).set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0, or an error's own after one line on standard error.

    Without `arguments`, it runs those of the command line, and whatever ends this process is told of: every
    rank of a job goes on as the child of a process that watches it.
    """
    if arguments is None:
        faulthandler.enable(watch() or 2)  # standard error
    if hasattr(sys.stdout, "reconfigure"):
        # Names of files need not be text; standard error is of this kind already.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = "seqbraid"
    spelled: Callable[[str], str] = str
    threads_hook = threading.excepthook
    try:
        parser = build_parser()
        options, unknown = parser.parse_known_args(arguments)
        command = f"seqbraid {options.command}"
        spelled = partial(in_flags, parser=options.parser)
        if unknown:
            near = near_flag(unknown, options.parser)
            hint = "" if near is None else f"; did you mean {near}?"
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        threading.excepthook = partial(_end_from_thread, command)
        with messages_shown(spelled), warnings_in_one_line(command, spelled):
            from seqbraid.cli.config import apply_config

            options = apply_config(parser, arguments, options)
            options.run(options)
            gather_warnings_at_end()
    except BrokenPipeError:
        # Whoever read the output has left (`seqbraid info | head -1`); Python must not write at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return end_job(command, "standard output was closed", 1)
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and running_mpi() is None:
            raise  # the parser's, which has said why
        if os.environ.get("SEQBRAID_TRACEBACK"):
            traceback.print_exc()
        text, code = explain(error)
        return end_job(command, spelled(text), code, consequence=isinstance(error, CommunicationError))
    finally:
        threading.excepthook = threads_hook
    return 0


def _end_from_thread(command: str, failed: threading.ExceptHookArgs) -> None:
    """End the job for an error that a thread let through; to be used as `threading.excepthook`."""
    if failed.exc_value is not None and not issubclass(failed.exc_type, SystemExit):
        end_job_from_thread(command, *explain(failed.exc_value))


if __name__ == "__main__":
    sys.exit(main())
