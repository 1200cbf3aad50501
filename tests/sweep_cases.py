"""Random sweeps for the tests of kernels: their tensors, and all that a sweep returns and writes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor

from seqbraid.cells import Propagator
from seqbraid.kernels import GRUKernel, Intervals

Counts = int | Tensor


@dataclass(frozen=True)
class Case:
    """T steps, B sequences, H hidden units, and how they are swept.

    `counts` is a number, or "random" for a tensor with zeros among its numbers.
    """

    T: int = 12
    B: int = 3
    H: int = 5
    length: int = 4
    reverse: bool = False
    propagator: Propagator = field(default_factory=lambda: Propagator("classic", 1.0))
    counts: int | str = 1
    bias: bool = True
    source: bool = False
    direct: bool = False
    dtype: torch.dtype = torch.float64
    seed: int = 0

    @property
    def intervals(self) -> Intervals:
        return Intervals(self.T, self.length, self.reverse)

    @property
    def tolerance(self) -> float:
        """What float32's rational tanh and the order of sums may cost, relative to a result's size."""
        return 1e-12 if self.dtype == torch.float64 else 5e-6


class Tensors:
    """All inputs of a case."""

    def __init__(self, case: Case) -> None:
        random = torch.Generator().manual_seed(case.seed)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return torch.randn(*shape, generator=random, dtype=case.dtype) * scale

        T, B, H, n = case.T, case.B, case.H, case.intervals.count
        self.w_hh = normal(3 * H, H, scale=H**-0.5)
        self.b_hh = normal(3 * H) if case.bias else None
        self.a = normal(T, B, 3 * H)
        self.points = normal(n, B, H)
        self.counts: Counts = 1
        if case.counts == "random":
            self.counts = torch.randint(0, 5, (T, B), generator=random, dtype=torch.int32)
        else:
            self.counts = int(case.counts)
        self.source = normal(T, B, H, scale=0.1) if case.source else None
        self.direct = normal(T, B, H) if case.direct else None
        self.factors = normal(T, B, 5, H, scale=0.5)


def forward(sweeps: GRUKernel, case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """Return all that a forward sweep leaves; what it does not write stays nan."""
    a = tensors.a
    states = a.new_full((case.T, case.B, case.H), torch.nan)
    factors = a.new_full((case.T, case.B, 5, case.H), torch.nan)
    before = tensors.points.clone()
    ends = sweeps.forward(
        a,
        tensors.points,
        case.intervals,
        case.propagator,
        tensors.counts,
        source=tensors.source,
        states=states,
        factors=factors,
    )
    assert torch.equal(before.nan_to_num(), tensors.points.nan_to_num()), "the C-points were written to"
    return {"ends": ends, "states": states, "factors": factors}


def adjoint(sweeps: GRUKernel, case: Case, tensors: Tensors) -> dict[str, Tensor]:
    """Return all that an adjoint sweep leaves, against the order of the case."""
    factors = tensors.factors
    cotangents = factors.new_full((case.T, case.B, case.H), torch.nan)
    gates = factors.new_full((case.T, case.B, 4, case.H), torch.nan)
    against = Intervals(case.T, case.length, not case.reverse)
    ends = sweeps.adjoint(
        factors,
        tensors.points,
        against,
        direct=tensors.direct,
        source=tensors.source,
        cotangents=cotangents,
        gate_cotangents=gates,
    )
    return {"ends": ends, "cotangents": cotangents, "gates": gates}


@st.composite
def propagators(draw: st.DrawFn) -> Propagator:
    kind = draw(st.sampled_from(["classic", "implicit", "frozen"]))
    cell = draw(st.sampled_from(["classic", "implicit"]))
    return Propagator(kind, draw(st.sampled_from([1.0, 0.4, 2.5])), cell)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any sweep; where steps are so long that states grow without bound, short intervals and no rounding."""
    propagator = draw(propagators())
    counts = draw(st.sampled_from([1, 16, "random"]))
    implicit = (propagator.cell if propagator.kind == "frozen" else propagator.kind) == "implicit"
    stable = implicit or (propagator.gamma <= 1 and (propagator.kind == "frozen" or counts == 1))
    T = draw(st.integers(1, 40))
    return Case(
        T=T,
        B=draw(st.integers(1, 9)),
        H=draw(st.sampled_from([1, 2, 3, 5, 16, 17, 33, 100])),
        length=draw(st.integers(1, T + 3)) if stable else draw(st.integers(1, 2)),
        reverse=draw(st.booleans()),
        propagator=propagator,
        counts=counts,
        bias=draw(st.booleans()),
        source=draw(st.booleans()),
        direct=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])) if stable else torch.float64,
        seed=draw(st.integers(0, 2**16)),
    )
