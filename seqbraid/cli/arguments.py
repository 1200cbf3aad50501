"""Argument types and groups of options that several subcommands share; imports nothing heavy."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqbraid.mgrit import MGRIT, Serial

__all__ = [
    "add_mgrit_arguments",
    "add_solver_arguments",
    "add_threads_argument",
    "at_least_zero",
    "describe_solver",
    "finite",
    "fraction",
    "mgrit_from_options",
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
        "--coarsening", type=whole(1, 10**9), metavar="C", help=f"steps an interval {default(4)}"
    )
    _add_options_of_mgrit(group, default)


def add_mgrit_arguments(parser: argparse.ArgumentParser, coarsenings: Sequence[int]) -> None:
    """Add the options of MGRIT for a command that always uses it; see `mgrit_from_options`.

    `coarsenings` are the defaults; of more than one, --coarsening takes several.
    """
    group = parser.add_argument_group("solver")
    several = len(coarsenings) > 1
    shown = " ".join(map(str, coarsenings))
    group.add_argument(
        "--coarsening",
        type=whole(1, 10**9),
        nargs="+" if several else 1,
        metavar="C",
        default=list(coarsenings),
        help=f"steps an interval{', one or more to try' if several else ''} (default: {shown})",
    )
    _add_options_of_mgrit(group, lambda value: f"(default: {value})")


def _add_options_of_mgrit(group: argparse._ArgumentGroup, default: Callable[[object], str]) -> None:
    """Add all but --coarsening. None tells an option that was not given; the texts name MGRIT's defaults."""
    count = whole(0, 1000)
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


# Those of training: a small interval, since the sequences of clips and sensor windows are short.
_MGRIT_DEFAULTS = {"coarsening": 4}


def solver_from_options(options: argparse.Namespace, trained: Serial | MGRIT | None = None) -> Serial | MGRIT:
    """Return the solver that the options ask for; what they leave open is as in `trained`.

    Raises `OptionsError` for an option of MGRIT beside the serial solver.
    """
    import dataclasses

    from seqbraid.errors import OptionsError
    from seqbraid.mgrit import MGRIT, Serial

    given = _given_of_mgrit(options)
    serial = options.solver == "serial" or (options.solver is None and not isinstance(trained, MGRIT))
    if serial:
        if given:
            flag = "--" + next(iter(given)).replace("_", "-")
            raise OptionsError(f"{flag} belongs to MGRIT; add --solver mgrit, or leave it out")
        return Serial()
    if isinstance(trained, MGRIT):
        return dataclasses.replace(trained, **given)
    return MGRIT(**{**_MGRIT_DEFAULTS, **given})


def mgrit_from_options(options: argparse.Namespace) -> list[MGRIT]:
    """Return an MGRIT for each coarsening asked for, in their order and each once."""
    from seqbraid.mgrit import MGRIT

    given = _given_of_mgrit(options)
    return [MGRIT(**{**given, "coarsening": each}) for each in dict.fromkeys(given["coarsening"])]


def _given_of_mgrit(options: argparse.Namespace) -> dict[str, Any]:
    import dataclasses

    from seqbraid.mgrit import MGRIT

    names = [field.name for field in dataclasses.fields(MGRIT) if hasattr(options, field.name)]
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def describe_solver(solver: Serial | MGRIT, coarsenings: Sequence[int] = ()) -> str:
    """Return what a person wants to know of a solver, in one line; `coarsenings` for its own, where given."""
    from seqbraid.mgrit import MGRIT

    if not isinstance(solver, MGRIT):
        return "serial solver"
    count = (
        f"to residual {solver.tolerance:g}"
        if solver.tolerance is not None
        else f"{solver.forward_iterations} forward and {solver.backward_iterations} backward iterations"
    )
    coarsening = ", ".join(map(str, coarsenings or [solver.coarsening]))
    return (
        f"MGRIT with coarsening {coarsening}, {solver.relaxation}, {solver.coarse} coarse propagator, {count}"
    )
