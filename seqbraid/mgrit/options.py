"""The solvers that a user can choose: `Serial` and `MGRIT`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["MGRIT", "Serial"]

CoarseKind = Literal["frozen", "implicit", "classic"]
CoarseStep = Literal["scaled", "unit"]
CoarseInput = Literal["mean", "point"]
Relaxation = Literal["FCF", "F"]
InitialGuess = Literal["coarse", "zero"]
OnDivergence = Literal["raise", "warn", "serial"]

_CHOICES = {
    "coarse": CoarseKind,
    "coarse_step": CoarseStep,
    "coarse_input": CoarseInput,
    "relaxation": Relaxation,
    "initial_guess": InitialGuess,
    "on_divergence": OnDivergence,
}


@dataclass(frozen=True)
class Serial:
    """Step by step in time order; over several ranks, each waits for the one before it. Exact."""


@dataclass(frozen=True, kw_only=True)
class MGRIT:
    """Two-level multigrid reduction in time (FAS), for the forward solve and for its adjoint.

    Args:
        coarsening: c, fine steps an interval (default 16).
        levels: 2; more are not built yet.
        forward_iterations: iterations of the forward solve (default 1), exact in number without a tolerance.
        backward_iterations: the same for the adjoint (default 1).
        relaxation: "FCF" (default) or the cheaper, weaker "F".
        coarse: "frozen" (default): the fine cell's own steps while the gates stand still; "implicit":
            Moon & Cyr, ICLR 2022; "classic": explicit, and unstable over long intervals.
        coarse_step: "scaled" (default): the coarse step stands for all c fine steps; "unit": for one.
        coarse_input: "mean" (default) of the projected inputs of the interval, or its last "point".
        initial_guess: "coarse" (default): the coarse solution; "zero": h0 and zeros, for studies.
        tolerance: relative residual at which both directions stop; None (default) for fixed counts.
        max_iterations: bound on the iterations where a tolerance is given (default 20).
        on_divergence: "raise" (default) SolverDivergedError, "warn" and return the states all the same, or
            "serial": warn and solve again in sequence.

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
    tolerance: float | None = None
    max_iterations: int = 20
    on_divergence: OnDivergence = "raise"

    def __post_init__(self) -> None:
        for name in ("coarsening", "max_iterations"):
            _require_integer(name, getattr(self, name), 1)
        for name in ("forward_iterations", "backward_iterations"):
            _require_integer(name, getattr(self, name), 0)
        if self.levels != 2:
            raise ValueError(
                f"levels is {self.levels!r}; this version has two-level MGRIT only, so expected 2"
            )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {get_args(choices)}")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance!r}; expected a positive number or None")

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


def _require_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
