"""Argument types and groups of options that several subcommands share; imports nothing heavy.

What solver the options ask for, `seqbraid.cli.solvers` tells.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

__all__ = [
    "add_grid_arguments",
    "add_mgrit_arguments",
    "add_sequence_arguments",
    "add_solver_arguments",
    "add_subcommand",
    "add_threads_argument",
    "at_least_zero",
    "finite",
    "fraction",
    "positive",
    "share",
    "whole",
]


def add_subcommand(subcommands: Any, name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Add the parser of a module with HELP and `add_arguments`, and return it; the docstring teaches.

    `options.parser` becomes it, so that errors found later tell of the right --help.
    """
    parser: argparse.ArgumentParser = subcommands.add_parser(
        name,
        help=module.HELP,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser)
    module.add_arguments(parser)
    return parser


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return value

    return parse


def fraction(text: str) -> float:
    """Argparse type for a number between 0 and 1, both excluded."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return value


def share(text: str) -> float:
    """Argparse type for a number from 0 that is less than 1."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 that is less than 1")
    return value


def positive(text: str) -> float:
    """Argparse type for a number above 0 that can be reckoned with in float32."""
    value = _number(text)
    if not 0 < value < 1e30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number below 1e30")
    return value


def at_least_zero(text: str) -> float:
    """Argparse type for a number from 0 that can be reckoned with in float32."""
    value = _number(text)
    if not 0 <= value < 1e30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0, below 1e30")
    return value


def finite(text: str) -> float:
    """Argparse type for a number that can be reckoned with in float32."""
    value = _number(text)
    if not -1e30 < value < 1e30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between -1e30 and 1e30")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def add_threads_argument(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads",
        type=whole(1, 4096),
        metavar="N",
        help="OpenMP threads of each rank "
        "(default: OMP_NUM_THREADS, else the machine's cores shared by its ranks)",
    )


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --sequence-ranks and --data-ranks."""
    group = parser.add_argument_group(
        "ranks", "S x D must be the ranks that were started. One of the two follows from the other."
    )
    group.add_argument(
        "--sequence-ranks",
        type=whole(1, 10**6),
        metavar="S",
        help="ranks that share the steps of a sequence (default: all)",
    )
    group.add_argument(
        "--data-ranks",
        type=whole(1, 10**6),
        metavar="D",
        help="groups of such ranks, which share the sequences of a batch (default: 1)",
    )


def add_sequence_arguments(parser: argparse.ArgumentParser, of_a_run: bool = False) -> None:
    """Add --split and --pad; with `of_a_run`, their defaults are those of its training."""
    group = parser.add_argument_group("sequences")
    group.add_argument(
        "--split",
        metavar="NAME",
        help="which of a feature store's splits "
        + (
            "(default: the one that the run was trained on; the test part of another may hold clips that it "
            "was trained on)"
            if of_a_run
            else "(default: the one that the store names)"
        ),
    )
    group.add_argument(
        "--pad",
        choices=_PADDINGS,
        default=None if of_a_run else "lengths",
        help="lengths: each sequence ends at its true end; zeros, repeat-last: each is filled up to all the "
        "steps that DATA has room for, with zeros (once standardised, so mean steps) or with its last step "
        + ("(default: as the run was trained)" if of_a_run else "(default: lengths)"),
    )


def add_solver_arguments(parser: argparse.ArgumentParser, of_a_run: bool = False) -> None:
    """Add --solver and the options of MGRIT; with `of_a_run`, their defaults are those of its training."""

    def default(value: object) -> str:
        return f"(default: the run's, else {value})" if of_a_run else f"(default: {value})"

    group = parser.add_argument_group("solver", "The options after --solver are those of mgrit.")
    group.add_argument(
        "--solver",
        choices=("serial", "mgrit"),
        help="serial is exact, mgrit parallel in time "
        + ("(default: as the run was trained)" if of_a_run else "(default: serial)"),
    )
    group.add_argument(
        "--coarsening",
        type=_LENGTH if of_a_run else _length_or_auto,
        metavar="C",
        help=f"steps an interval{'' if of_a_run else _OR_AUTO} {default(4)}",
    )
    if not of_a_run:
        _add_memory(group)
    _add_options_of_mgrit(group, default)


def add_mgrit_arguments(
    parser: argparse.ArgumentParser, coarsenings: Sequence[int], auto: bool = False
) -> None:
    """Add the options of MGRIT for a command that always uses it; see `solvers.mgrit_from_options`.

    `coarsenings` are the defaults; of more than one, --coarsening takes several. With `auto` it takes that
    word too; see `solvers.choose_from_options`.
    """
    group = parser.add_argument_group("solver")
    several = len(coarsenings) > 1
    shown = " ".join(map(str, coarsenings))
    group.add_argument(
        "--coarsening",
        type=_length_or_auto if auto else _LENGTH,
        nargs="+" if several else 1,
        metavar="C",
        default=list(coarsenings),
        help=f"steps an interval{_OR_AUTO if auto else ''}{'; one or more to try' if several else ''} "
        f"(default: {shown})",
    )
    if auto:
        _add_memory(group)
    _add_options_of_mgrit(group, lambda value: f"(default: {value})")


# As in seqbraid.data.padding, which imports more.
_PADDINGS = ("lengths", "zeros", "repeat-last")
_LENGTH = whole(1, 10**9)
_OR_AUTO = ", or auto: it, levels, iterations and initial guess by a model of the costs"


def _length_or_auto(text: str) -> int | str:
    try:
        return text if text == "auto" else _LENGTH(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from None


def _add_memory(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--memory",
        type=positive,
        metavar="M",
        help="with --coarsening auto, the steps over which the network remembers (default: unknown)",
    )


def _add_options_of_mgrit(group: argparse._ArgumentGroup, default: Callable[[object], str]) -> None:
    """Add all but --coarsening. None tells an option that was not given; the texts name MGRIT's defaults."""
    count = whole(0, 1000)
    group.add_argument(
        "--levels",
        type=whole(1, 60),
        metavar="L",
        help=f"grid levels, each C times coarser; 1 is exact, rank after rank {default(2)}",
    )
    group.add_argument(
        "--forward-iterations", type=count, metavar="K", help=f"iterations of the forward solve {default(1)}"
    )
    group.add_argument(
        "--backward-iterations", type=count, metavar="K", help=f"iterations of its adjoint {default(1)}"
    )
    group.add_argument(
        "--relaxation", choices=("FCF", "F"), help=f"F is cheaper an iteration, and weaker {default('FCF')}"
    )
    group.add_argument(
        "--coarse", choices=("frozen", "implicit", "classic"), help=f"coarse propagator {default('frozen')}"
    )
    group.add_argument(
        "--coarse-step",
        choices=("scaled", "unit"),
        help=f"coarse step over all steps of an interval, or one {default('scaled')}",
    )
    group.add_argument(
        "--coarse-input",
        choices=("mean", "point"),
        help=f"the interval's mean input, or its last {default('mean')}",
    )
    group.add_argument(
        "--initial-guess",
        choices=("coarse", "zero"),
        help="zero spares a coarse solve; for intervals several times longer than the memory "
        f"{default('coarse')}",
    )
    group.add_argument(
        "--tolerance",
        type=positive,
        metavar="R",
        help=f"iterate to this relative residual instead of a fixed count {default('none')}",
    )
    group.add_argument(
        "--max-iterations",
        type=whole(1, 1000),
        metavar="K",
        help=f"at most so many with --tolerance {default(20)}",
    )
    group.add_argument(
        "--on-divergence",
        choices=("raise", "warn", "serial"),
        help=f"when a residual grows: stop, warn, or solve again in sequence {default('raise')}",
    )
    group.add_argument(
        "--storage",
        choices=("states", "c_points"),
        help="keep all that the backward pass needs, or interval starts alone: far less memory, about twice "
        f"the time {default('states')}",
    )
