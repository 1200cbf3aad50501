"""The solver that options ask for, with what they leave open, or leave to the model of the costs.

`given` are the options by their names among arguments, as `seqbraid.options.values_of` takes them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seqbraid.options import MGRIT, TRAINED_BY, Serial, SolverOptions, options_of, require_beside, values_of
from seqbraid.rnn.auto import Choice, choose

__all__ = ["choose_as_asked", "chosen_as_asked", "mgrit_as_asked", "solver_as_asked"]


def solver_as_asked(
    given: Mapping[str, Any], trained: Serial | MGRIT | None = None, choice: Choice | None = None
) -> Serial | MGRIT:
    """Return the solver that the options ask for; what they leave open is as in `trained`.

    `choice` is what `choose_as_asked` chose. Raises `OptionsError` for an option of MGRIT beside the serial
    solver.
    """
    solver = given.get("solver")
    serial = solver == "serial" or (solver is None and not isinstance(trained, MGRIT))
    given = {**given, "solver": "serial" if serial else "mgrit"}
    require_beside([*options_of(SolverOptions, "solver"), *options_of(MGRIT)], given)
    if serial:
        return Serial()
    if choice is not None:
        return chosen_as_asked(given, choice)
    return replace(trained if isinstance(trained, MGRIT) else TRAINED_BY, **values_of(MGRIT, given))


def mgrit_as_asked(given: Mapping[str, Any]) -> list[MGRIT]:
    """Return an MGRIT for each coarsening in numbers, in their order and each once.

    On one level there are no intervals, and so only the first.
    """
    values = values_of(MGRIT, given)
    asked = values["coarsening"]
    lengths = [
        each for each in dict.fromkeys(asked if isinstance(asked, list) else [asked]) if each != "auto"
    ]
    solvers = [MGRIT(**{**values, "coarsening": each}) for each in lengths]
    return solvers[:1] if values.get("levels") == 1 else solvers


def choose_as_asked(given: Mapping[str, Any], size: tuple[int, int, int, int], ranks: int) -> Choice | None:
    """Return what a coarsening of "auto" stands for, for a layer of T, B, I, H on so many ranks.

    None without it. Raises `OptionsError` for `memory` without it.
    """
    require_beside([*options_of(MGRIT, "coarsening"), *options_of(SolverOptions, "memory")], given)
    lengths = given.get("coarsening")
    if lengths != "auto" and not (isinstance(lengths, list) and "auto" in lengths):
        return None
    T, B, inputs, hidden = size
    network = {name: given[name] for name in ("latency", "bandwidth") if name in given}
    return choose(T, B, hidden, ranks, inputs, given.get("memory"), **network)


def chosen_as_asked(given: Mapping[str, Any], choice: Choice) -> Serial | MGRIT:
    """Return the chosen solver, with all else that the options ask for; warn of what it has no use for."""
    values = values_of(MGRIT, given)
    del values["coarsening"]
    if isinstance(choice.solver, Serial):
        if values:
            names = ", ".join(f"`{name}`" for name in values)
            warnings.warn(
                f"the serial solver was chosen, which has no use for {names}; give `coarsening` a number to "
                "solve in parallel all the same",
                RuntimeWarning,
                stacklevel=2,
            )
        return choice.solver
    return replace(choice.solver, **values)
