"""The solvers that a user can choose: `Serial` and `MGRIT`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MGRIT", "Serial", "require_integer"]

CoarseKind = Literal["frozen", "implicit", "classic"]
CoarseStep = Literal["scaled", "unit"]
CoarseInput = Literal["mean", "point"]
Relaxation = Literal["FCF", "F"]
InitialGuess = Literal["coarse", "zero"]
OnDivergence = Literal["raise", "warn", "serial"]
Storage = Literal["states", "c_points"]

_CHOICES = {
    "coarse": CoarseKind,
    "coarse_step": CoarseStep,
    "coarse_input": CoarseInput,
    "relaxation": Relaxation,
    "initial_guess": InitialGuess,
    "on_divergence": OnDivergence,
    "storage": Storage,
}


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

    Args:
        coarsening: c, fine steps an interval (default 16).
        levels: grid levels (default 2); each level's step stands for c of the one above, the coarsest level
            is solved in sequence, those between by one V-cycle an iteration. 1 is the serial solver.
        forward_iterations: iterations of the forward solve (default 1), exact in number without a tolerance.
        backward_iterations: the same for the adjoint (default 1).
        relaxation: "FCF" (default) or the cheaper, weaker "F".
        coarse: "frozen" (default): the fine cell's own steps while the gates stand still; "implicit":
            Moon & Cyr, ICLR 2022; "classic": explicit, and unstable over long intervals.
        coarse_step: "scaled" (default): the coarse step stands for all c fine steps; "unit": for one.
        coarse_input: "mean" (default) of the projected inputs of the interval, or its last "point".
        initial_guess: "coarse" (default): the coarse solution; "zero": h0 and zeros, for studies.
        c_weight: how far C-relaxation moves a C-point towards its fine state (default 1.0: all the way).
        tolerance: relative residual at which both directions stop; None (default) for fixed counts.
        max_iterations: bound on the iterations where a tolerance is given (default 20).
        on_divergence: "raise" (default) SolverDivergedError, "warn" and return the states all the same, or
            "serial": warn and solve again in sequence.
        storage: what is kept for the adjoint: "states" (default), all that it needs; "c_points": the states
            at interval starts, from which each adjoint sweep recomputes the rest chunk by chunk.

    Raises:
        ValueError: for a value outside these, named in the message.

    """

    coarsening: int = 16
    levels: int = 2
    forward_iterations: int = 1
    backward_iterations: int = 1
    relaxation: Relaxation = "FCF"
    coarse: CoarseKind = "frozen"
    coarse_step: CoarseStep = "scaled"
    coarse_input: CoarseInput = "mean"
    initial_guess: InitialGuess = "coarse"
    c_weight: float = 1.0
    tolerance: float | None = None
    max_iterations: int = 20
    on_divergence: OnDivergence = "raise"
    storage: Storage = "states"

    def __post_init__(self) -> None:
        for name in ("coarsening", "levels", "max_iterations"):
            require_integer(name, getattr(self, name), 1)
        for name in ("forward_iterations", "backward_iterations"):
            require_integer(name, getattr(self, name), 0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {get_args(choices)}")
        if not 0 < self.c_weight < 2:
            raise ValueError(f"c_weight is {self.c_weight!r}; expected a number between 0 and 2, 1 for none")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance!r}; expected a positive number or None")

    @property
    def slice_multiple(self) -> int:
        """The number of steps at whose multiples a sequence may be cut over ranks: c^(levels - 1)."""
        return int(self.coarsening ** (self.levels - 1))

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

    @staticmethod
    def auto(
        T: int,
        B: int,
        H: int,
        ranks: int,
        inputs: int | None = None,
        *,
        memory: float | None = None,
        latency: float = 2e-6,
        bandwidth: float = 10e9,
    ) -> MGRIT:
        """Choose coarsening, levels, iterations and initial guess by a model of the costs, and log it.

        `levels` is 1, the exact serial solver as a pipeline over the ranks, where the others gain too little.
        The choice goes to the logger "seqbraid" at level INFO; `seqbraid.mgrit.auto.choose` returns it.

        Args:
            T: steps of the whole sequence.
            B: sequences.
            H: hidden units.
            ranks: P, over which the sequence is cut.
            inputs: I (default: as many as hidden units).
            memory: steps over which the network remembers, where known: an interval of twice as many is then
                the least for one iteration. Without, see how exact the choice is with `seqbraid verify`.
            latency: seconds of a message (default 2e-6).
            bandwidth: bytes of a message in a second (default 10e9).

        Raises:
            ValueError: for a value outside its range, named in the message.

        """
        from seqbraid.mgrit.auto import choose

        choice = choose(T, B, H, ranks, inputs, memory, latency, bandwidth)
        logging.getLogger("seqbraid").info("%s", choice)
        return choice.solver


def require_integer(name: str, value: object, least: int) -> None:
    """Raise ValueError where a value is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
