"""The solvers that a user can choose: `Serial` and `MGRIT`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from seqbraid.errors import DataError

__all__ = ["MGRIT", "Serial", "require_integer", "solver_from_dict", "solver_to_dict"]

Relaxation = Literal["FCF", "F"]
InitialGuess = Literal["coarse", "zero"]
OnDivergence = Literal["raise", "warn", "serial"]

_CHOICES = {"initial_guess": InitialGuess, "on_divergence": OnDivergence}


@dataclass(frozen=True)
class Serial:
    """Step by step in time order; over several ranks, each waits for the one before it. Exact."""

    @property
    def slice_multiple(self) -> int:
        """The number of steps at whose multiples a sequence may be cut over ranks: any."""
        return 1


@dataclass(frozen=True, kw_only=True)
class MGRIT:
    """Multigrid reduction in time (FAS), for the forward solve and for its adjoint.

    `coarsening`, `relaxation` and `c_weight` are one value for all levels, or a tuple of levels - 1 values,
    the finest level's first. `coarse`, `coarse_step`, `coarse_input` and `storage` are for the model that is
    solved, which checks them: below is what recurrent cells understand.

    Args:
        coarsening: c, steps an interval (default 16).
        levels: grid levels (default 2); each level's step stands for c of the one above, the coarsest level
            is solved in sequence, those between by one V-cycle an iteration. 1 is the serial solver.
        forward_iterations: iterations of the forward solve (default 1), exact in number without a tolerance.
        backward_iterations: the same for the adjoint (default 1).
        relaxation: "FCF" (default) or the cheaper, weaker "F".
        coarse: the coarse propagator. None (default): the model's own choice, for a GRU "frozen": the fine
            cell's own steps while the gates stand still; "implicit": Moon & Cyr, ICLR 2022; "classic":
            explicit, and unstable over long intervals. Other cells bring others, "relaxation" at least.
        coarse_step: "scaled" (default): the coarse step stands for all c fine steps; "unit": for one.
        coarse_input: "mean" (default) of the inputs of the interval, or its last "point".
        initial_guess: "coarse" (default): the coarse solution; "zero": h0 and zeros, for studies. A guess
            that is handed to the solve itself takes its place.
        c_weight: how far C-relaxation moves a C-point towards its fine state (default 1.0: undamped).
        tolerance: relative residual at which both directions stop; None (default) for fixed counts.
        max_iterations: bound on the iterations where a tolerance is given (default 20).
        on_divergence: "raise" (default) SolverDivergedError, "warn" and return the states all the same, or
            "serial": warn and solve again in sequence.
        storage: what is kept for the adjoint: "states" (default), all that it needs; "c_points": the states
            at interval starts, from which each adjoint sweep recomputes the rest chunk by chunk.

    Raises:
        ValueError: for a value outside these, named in the message.

    """

    # Chooses a solver for a size and a number of ranks; `seqbraid.rnn`, which knows the costs, puts it here.
    auto: ClassVar[Callable[..., Serial | MGRIT]]

    coarsening: int | tuple[int, ...] = 16
    levels: int = 2
    forward_iterations: int = 1
    backward_iterations: int = 1
    relaxation: Relaxation | tuple[Relaxation, ...] = "FCF"
    coarse: str | None = None
    coarse_step: str = "scaled"
    coarse_input: str = "mean"
    initial_guess: InitialGuess = "coarse"
    c_weight: float | tuple[float, ...] = 1.0
    tolerance: float | None = None
    max_iterations: int = 20
    on_divergence: OnDivergence = "raise"
    storage: str = "states"

    def __post_init__(self) -> None:
        for name in ("levels", "max_iterations"):
            require_integer(name, getattr(self, name), 1)
        for name in ("forward_iterations", "backward_iterations"):
            require_integer(name, getattr(self, name), 0)
        for name in ("coarsening", "relaxation", "c_weight"):
            value = getattr(self, name)
            if isinstance(value, list):  # as JSON has it
                object.__setattr__(self, name, tuple(value))
            if isinstance(value, list | tuple) and len(value) != self.levels - 1:
                raise ValueError(
                    f"{name} is {value!r}, {len(value)} values; expected one for each level but the "
                    f"coarsest, {self.levels - 1} with levels={self.levels}, or a single one for all"
                )
        for value in _each(self.coarsening):
            require_integer("coarsening", value, 1)
        for value in _each(self.relaxation):
            _require_choice("relaxation", value, Relaxation)
        for value in _each(self.c_weight):
            if not 0 < value < 2:
                raise ValueError(f"c_weight is {value!r}; expected a number between 0 and 2, 1 is undamped")
        for name, choices in _CHOICES.items():
            _require_choice(name, getattr(self, name), choices)
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance!r}; expected a positive number or None")

    def coarsening_of(self, level: int) -> int:
        """Return the steps of `level` that an interval of it has; level 0 is the fine one."""
        return self.coarsening[level] if isinstance(self.coarsening, tuple) else self.coarsening

    def relaxation_of(self, level: int) -> Relaxation:
        """Return how `level` is relaxed; level 0 is the fine one."""
        return self.relaxation[level] if isinstance(self.relaxation, tuple) else self.relaxation

    def c_weight_of(self, level: int) -> float:
        """Return the weight of C-relaxation on `level`; level 0 is the fine one."""
        return self.c_weight[level] if isinstance(self.c_weight, tuple) else self.c_weight

    def fine_steps_of(self, level: int) -> int:
        """Return the fine steps that a step of `level` stands for; 1 on level 0."""
        steps = 1
        for above in range(level):
            steps *= self.coarsening_of(above)
        return steps

    @property
    def slice_multiple(self) -> int:
        """The number of steps at whose multiples a sequence may be cut over ranks: c^(levels - 1)."""
        return self.fine_steps_of(self.levels - 1)

    @staticmethod
    def moon_cyr() -> MGRIT:
        """Return the setting of Moon & Cyr, ICLR 2022: c = 4, FCF, implicit coarse step at the last input.

        Two forward iterations and one backward.
        """
        return MGRIT(
            coarsening=4,
            forward_iterations=2,
            backward_iterations=1,
            coarse="implicit",
            coarse_step="scaled",
            coarse_input="point",
        )


def solver_to_dict(solver: Serial | MGRIT) -> dict[str, Any]:
    """Return a solver as plain values for a file."""
    return {"solver": "mgrit" if isinstance(solver, MGRIT) else "serial", **asdict(solver)}


def solver_from_dict(values: dict[str, Any]) -> Serial | MGRIT:
    """Return the solver that `solver_to_dict` wrote; raises `DataError` for values that it cannot have."""
    options = {name: value for name, value in values.items() if name != "solver"}
    kinds: dict[Any, type[Serial] | type[MGRIT]] = {"serial": Serial, "mgrit": MGRIT}
    try:
        return kinds[values.get("solver")](**options)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the run's solver cannot be made from {values} ({error}); train again") from error


def require_integer(name: str, value: object, least: int) -> None:
    """Raise ValueError where a value is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")


def _require_choice(name: str, value: object, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} is {value!r}; expected one of {get_args(choices)}")


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
