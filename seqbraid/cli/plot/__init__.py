"""Draw pictures: of a run, or of a data set.

  RUN, run RUN   how a training went: learning curves, residuals, where the time went, confusion matrix
  data DATA      what a data set holds: clips a class, true lengths, frames or sequences of each class

example:
  seqbraid plot run/
  seqbraid plot run/ --output run.pdf
  seqbraid plot data features/
  seqbraid plot data har.npz --output har.pdf

A word that is no KIND is a run folder; one that is called data is drawn by `seqbraid plot run data`. Run
`seqbraid plot KIND --help` for the options of one.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from types import ModuleType
from typing import Any

from seqbraid.cli.arguments import add_subcommand
from seqbraid.cli.plot import data
from seqbraid.cli.plot import run as run_kind

__all__ = ["HELP", "add_arguments", "run"]

HELP = "draw how a training went, or what a data set holds"

# Each kind is a module with HELP, `add_arguments(parser)` and `run(options)`; its docstring teaches.
_KINDS: dict[str, ModuleType] = {"run": run_kind, "data": data}


class _KindOrRun(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Takes a first word that is no kind for the run folder of `run`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.choices = None  # type: ignore[assignment]  # any word

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        words = values if values[0] in _KINDS and not _is_folder_called_run(values) else ["run", *values]
        super().__call__(parser, namespace, words, option_string)


def _is_folder_called_run(words: list[str]) -> bool:
    """Return whether `run` is followed by nothing but --output, so that it must be the folder itself."""
    others = [
        word
        for before, word in pairwise(words)
        if before != "--output" and word.partition("=")[0] != "--output"
    ]
    return words[0] == "run" and not others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `seqbraid plot`."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True, action=_KindOrRun)
    for name, module in _KINDS.items():
        add_subcommand(kinds, name, module)


def run(options: argparse.Namespace) -> None:
    """Draw, on rank 0 alone."""
    from seqbraid.comm import launched_rank

    # By the launcher's word: the other ranks leave, and no MPI is started that would hold them.
    if launched_rank() == 0:
        _KINDS[options.kind].run(options)
