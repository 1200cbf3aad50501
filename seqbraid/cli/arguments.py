"""Argument types and groups of options that several subcommands share; imports nothing heavy."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqbraid.mgrit import MGRIT, Serial

__all__ = [
    "add_solver_arguments",
    "add_threads_argument",
    "fraction",
    "positive",
    "solver_from_options",
    "whole",
]


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


def positive(text: str) -> float:
    """Argparse type for a number above 0 that can be reckoned with in float32."""
    value = _number(text)
    if not 0 < value < 1e30:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number below 1e30")
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
    count = whole(0, 1000)
    # None tells an option that was not given; the texts name the defaults of _MGRIT_DEFAULTS and MGRIT.
    group.add_argument(
        "--coarsening", type=whole(1, 10**9), metavar="C", help=f"steps an interval {default(4)}"
    )
    group.add_argument(
        "--levels", type=whole(2, 60), metavar="L", help=f"grid levels, each C times coarser {default(2)}"
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


# A small interval, since the sequences of clips and sensor windows are short.
_MGRIT_DEFAULTS = {"coarsening": 4}


def solver_from_options(options: argparse.Namespace, trained: Serial | MGRIT | None = None) -> Serial | MGRIT:
    """Return the solver that the options ask for; what they leave open is as in `trained`.

    Raises `OptionsError` for an option of MGRIT beside the serial solver.
    """
    import dataclasses

    from seqbraid.errors import OptionsError
    from seqbraid.mgrit import MGRIT, Serial

    names = [field.name for field in dataclasses.fields(MGRIT) if hasattr(options, field.name)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    serial = options.solver == "serial" or (options.solver is None and not isinstance(trained, MGRIT))
    if serial:
        if given:
            flag = "--" + next(iter(given)).replace("_", "-")
            raise OptionsError(f"{flag} belongs to MGRIT; add --solver mgrit, or leave it out")
        return Serial()
    if isinstance(trained, MGRIT):
        return dataclasses.replace(trained, **given)
    return MGRIT(**{**_MGRIT_DEFAULTS, **given})
