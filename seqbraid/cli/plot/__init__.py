"""Draw pictures.

  data    what a data set holds: clips a class, true lengths, frames or sequences of each class

example:
  seqbraid plot data features/
  seqbraid plot data har.npz --output har.pdf

Run `seqbraid plot KIND --help` for the options of one.
"""

from __future__ import annotations

import argparse
from types import ModuleType

from seqbraid.cli.arguments import add_subcommand
from seqbraid.cli.plot import data

__all__ = ["HELP", "add_arguments", "run"]

HELP = "draw what a data set holds"

# Each kind is a module with HELP, `add_arguments(parser)` and `run(options)`; its docstring teaches.
_KINDS: dict[str, ModuleType] = {"data": data}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `seqbraid plot`."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, module in _KINDS.items():
        add_subcommand(kinds, name, module)


def run(options: argparse.Namespace) -> None:
    """Draw, on rank 0 alone."""
    from seqbraid.comm import launched_rank

    # By the launcher's word: the other ranks leave, and no MPI is started that would hold them.
    if launched_rank() == 0:
        _KINDS[options.kind].run(options)
