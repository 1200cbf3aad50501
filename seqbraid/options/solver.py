"""The solvers that a user can choose: `Serial` and `MGRIT`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from seqbraid.errors import DataError, OptionsError
from seqbraid.options.declaring import Beside, Group, check, documented, option
from seqbraid.options.kinds import POSITIVE, TEXT, Number, OneOf, PerLevel, Whole

__all__ = [
    "MGRIT",
    "TRAINED_BY",
    "CoarseInput",
    "CoarseKind",
    "CoarseStep",
    "Serial",
    "SolverOptions",
    "Storage",
    "solver_from_dict",
    "solver_to_dict",
]

Relaxation = Literal["FCF", "F"]
InitialGuess = Literal["coarse", "zero"]
OnDivergence = Literal["raise", "warn", "serial"]
# What a GRU understands, for which the command line is.
CoarseKind = Literal["frozen", "implicit", "classic"]
CoarseStep = Literal["scaled", "unit"]
CoarseInput = Literal["mean", "point"]
Storage = Literal["states", "c_points"]

SOLVER = Group("solver", "The options after --solver are those of mgrit.")
_LENGTHS = PerLevel(Whole(1, 10**9))
_ITERATIONS = Whole(0, 1000)

_of_mgrit = partial(option, group=SOLVER, beside=Beside("solver", "mgrit"))


@documented
@dataclass(frozen=True)
class SolverOptions:
    """Which solver is taken."""

    solver: Literal["serial", "mgrit"] = option(
        "serial",
        OneOf("serial", "mgrit"),
        "serial is exact, mgrit parallel in time",
        group=SOLVER,
    )
    memory: float | None = option(
        None,
        POSITIVE,
        "with `coarsening=auto`, the steps over which the network remembers",
        metavar="M",
        group=SOLVER,
        beside=Beside("coarsening", "auto"),
        unset="unknown",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Serial:
    """Step by step in time order; over several ranks, each waits for the one before it. Exact."""

    @property
    def slice_multiple(self) -> int:
        """The number of steps at whose multiples a sequence may be cut over ranks: any."""
        return 1


@documented
@dataclass(frozen=True, kw_only=True)
class MGRIT:
    """Multigrid reduction in time (FAS), for the forward solve and for its adjoint.

    `coarsening`, `relaxation` and `c_weight` are one value for all levels, or a tuple of levels - 1 values,
    the finest level's first. `coarse`, `coarse_step`, `coarse_input` and `storage` are for the model that is
    solved, which checks them: what is said of them here is what recurrent cells understand. Raises ValueError
    for a value outside its range, named in the message.
    """

    # Chooses a solver for a size and a number of ranks; `seqbraid.rnn`, which knows the costs, puts it here.
    auto: ClassVar[Callable[..., Serial | MGRIT]]

    coarsening: int | tuple[int, ...] = _of_mgrit(
        16,
        _LENGTHS,
        "steps an interval",
        detail="One for each level but the coarsest is 16,4 on the command line, (16, 4) in Python.",
        metavar="C",
    )
    levels: int = _of_mgrit(
        2,
        Whole(1, 60),
        "grid levels, each C times coarser; 1 is exact, rank after rank",
        detail="The coarsest is solved in sequence, those between by one V-cycle an iteration.",
        metavar="L",
    )
    forward_iterations: int = _of_mgrit(
        1,
        _ITERATIONS,
        "iterations of the forward solve",
        detail="So many, unless there is a tolerance.",
        metavar="K",
    )
    backward_iterations: int = _of_mgrit(1, _ITERATIONS, "iterations of its adjoint", metavar="K")
    relaxation: Relaxation | tuple[Relaxation, ...] = _of_mgrit(
        "FCF",
        PerLevel(OneOf(Relaxation)),
        "F is cheaper an iteration, and weaker",
        metavar="{FCF,F}",
    )
    coarse: str | None = _of_mgrit(
        None,
        TEXT,
        "coarse propagator",
        detail="Without one, the model's own choice, for a GRU frozen: the fine cell's own steps while the "
        "gates stand still. implicit: Moon & Cyr, ICLR 2022; classic: explicit, and unstable over long "
        "intervals. Other cells bring others, relaxation at least.",
        command=OneOf(CoarseKind),
        unset="frozen",
    )
    coarse_step: str = _of_mgrit(
        "scaled", TEXT, "coarse step over all steps of an interval, or one", command=OneOf(CoarseStep)
    )
    coarse_input: str = _of_mgrit(
        "mean", TEXT, "the interval's mean input, or its last", command=OneOf(CoarseInput)
    )
    initial_guess: InitialGuess = _of_mgrit(
        "coarse",
        OneOf(InitialGuess),
        "zero spares a coarse solve; for intervals several times longer than the memory",
        detail="coarse: the coarse solution; zero: h0 and zeros. A guess that is handed to the solve "
        "itself takes its place.",
    )
    c_weight: float | tuple[float, ...] = _of_mgrit(
        1.0,
        PerLevel(Number("a number between 0 and 2, 1 is undamped", 0.0, 2.0)),
        "how far C-relaxation moves a C-point towards its fine state; 1 is undamped",
        metavar="W",
    )
    tolerance: float | None = _of_mgrit(
        None,
        POSITIVE,
        "iterate to this relative residual instead of a fixed count",
        metavar="R",
        unset="none",
    )
    max_iterations: int = _of_mgrit(20, Whole(1, 1000), "at most so many with `tolerance`", metavar="K")
    on_divergence: OnDivergence = _of_mgrit(
        "raise",
        OneOf(OnDivergence),
        "when a residual grows: stop, warn, or solve again in sequence",
        detail="raise: a SolverDivergedError.",
    )
    storage: str = _of_mgrit(
        "states",
        TEXT,
        "keep all that the backward pass needs, or interval starts alone: far less memory, about twice the "
        "time",
        command=OneOf(Storage),
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("coarsening", "relaxation", "c_weight"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.levels - 1:
                raise OptionsError(
                    f"`{name}` is {value!r}, {len(value)} values; expected one for each level but the "
                    f"coarsest, {self.levels - 1} with `levels={self.levels}`, or a single one for all"
                )

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


# What a training takes where its options leave it open: short intervals, since the sequences of clips and
# sensor windows are short.
TRAINED_BY = MGRIT(coarsening=4)


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
