"""A solver in words."""

from __future__ import annotations

from collections.abc import Sequence

from seqbraid.options.solver import MGRIT, Serial

__all__ = ["describe_solver"]


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
