"""The solver that the options of a subcommand ask for; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from seqbraid.options import (
    MGRIT,
    TRAINED_BY,
    Serial,
    SolverOptions,
    options_of,
    require_beside,
    values_of,
)

if TYPE_CHECKING:
    from seqbraid.rnn.auto import Choice

__all__ = [
    "choose_from_options",
    "chosen_from_options",
    "describe_solver",
    "mgrit_from_options",
    "solver_from_options",
]


def solver_from_options(
    options: argparse.Namespace, trained: Serial | MGRIT | None = None, choice: Choice | None = None
) -> Serial | MGRIT:
    """Return the solver that the options ask for; what they leave open is as in `trained`.

    `choice` is what `choose_from_options` chose. Raises `OptionsError` for an option of MGRIT beside the
    serial solver.
    """
    serial = options.solver == "serial" or (options.solver is None and not isinstance(trained, MGRIT))
    given = {**vars(options), "solver": "serial" if serial else "mgrit"}
    require_beside([*options_of(SolverOptions, "solver"), *options_of(MGRIT)], given)
    if serial:
        return Serial()
    if choice is not None:
        return chosen_from_options(options, choice)
    return replace(trained if isinstance(trained, MGRIT) else TRAINED_BY, **values_of(MGRIT, given))


def mgrit_from_options(options: argparse.Namespace) -> list[MGRIT]:
    """Return an MGRIT for each coarsening in numbers, in their order and each once.

    On one level there are no intervals, and so only the first.
    """
    given = values_of(MGRIT, vars(options))
    asked = given["coarsening"]
    lengths = [
        each for each in dict.fromkeys(asked if isinstance(asked, list) else [asked]) if each != "auto"
    ]
    solvers = [MGRIT(**{**given, "coarsening": each}) for each in lengths]
    return solvers[:1] if given.get("levels") == 1 else solvers


def choose_from_options(
    options: argparse.Namespace, size: tuple[int, int, int, int], ranks: int
) -> Choice | None:
    """Return what --coarsening auto stands for, for a layer of T, B, I, H on so many ranks; None without it.

    Raises `OptionsError` for --memory without it.
    """
    from seqbraid.rnn.auto import choose

    require_beside([*options_of(MGRIT, "coarsening"), *options_of(SolverOptions, "memory")], vars(options))
    lengths = options.coarsening
    if lengths != "auto" and not (isinstance(lengths, list) and "auto" in lengths):
        return None
    T, B, inputs, hidden = size
    network = {name: getattr(options, name) for name in ("latency", "bandwidth") if hasattr(options, name)}
    return choose(T, B, hidden, ranks, inputs, options.memory, **network)


def chosen_from_options(options: argparse.Namespace, choice: Choice) -> Serial | MGRIT:
    """Return the chosen solver, with all else that the options ask for."""
    if isinstance(choice.solver, Serial):
        return choice.solver
    given = values_of(MGRIT, vars(options))
    del given["coarsening"]
    return replace(choice.solver, **given)


def describe_solver(solver: Serial | MGRIT, coarsenings: Sequence[int] = ()) -> str:
    """Return what a person wants to know of a solver, in one line; `coarsenings` for its own, where given."""
    if not isinstance(solver, MGRIT):
        return "serial solver"
    if solver.levels == 1:
        return "MGRIT with one level, which is the serial solver"
    count = (
        f"to residual {solver.tolerance:g}"
        if solver.tolerance is not None
        else f"{solver.forward_iterations} forward and {solver.backward_iterations} backward iterations"
    )
    lengths = coarsenings or [solver.coarsening_of(level) for level in range(solver.levels - 1)]
    coarsening = ", ".join(map(str, dict.fromkeys(lengths)))
    return (
        f"MGRIT with coarsening {coarsening}, {solver.relaxation}, {solver.coarse or 'frozen'} coarse "
        f"propagator, {count}"
    )
