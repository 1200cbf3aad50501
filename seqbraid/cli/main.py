"""The `seqbraid` command: picks the subcommand and turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from seqbraid.cli import evaluate, info, predict, preprocess, train
from seqbraid.comm import launched_ranks
from seqbraid.errors import SeqbraidError

# Each subcommand is a module with HELP, `add_arguments(parser)` and `run(options)`; its docstring teaches.
_COMMANDS: dict[str, ModuleType] = {
    "preprocess": preprocess,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "info": info,
}

_EPILOG = """\
examples:
  seqbraid preprocess videos/ features/ --backbone resnet18
  mpiexec -n 4 seqbraid train features/ --cell implicit --solver mgrit --coarsening 4 --output run/
  seqbraid evaluate run/ features/
  seqbraid predict run/ clip.avi

Run `seqbraid COMMAND --help` for the options of one command."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="seqbraid",
        description="Train recurrent networks in parallel along the sequence.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0, or an error's own after one line on standard error."""
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except (SeqbraidError, OSError) as error:
        if os.environ.get("SEQBRAID_TRACEBACK"):
            traceback.print_exc()
        _say(f"seqbraid {options.command}: error: {error}")
        return _end(error.exit_code if isinstance(error, SeqbraidError) else 1)
    except KeyboardInterrupt:
        _say(f"seqbraid {options.command}: interrupted")
        return _end(130)
    except Exception:
        # A defect of ours: show where, and take the other ranks down instead of leaving them waiting.
        traceback.print_exc()
        return _end(1)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end(code: int) -> int:
    if launched_ranks() > 1:
        _abort(code)
    return code


def _abort(code: int) -> NoReturn:
    """End every rank of the job: the others may be waiting for this one in a collective call."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        os._exit(code)
    MPI.COMM_WORLD.Abort(code)
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
