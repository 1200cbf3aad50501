"""The GRU: its propagators and their adjoints in plain PyTorch, on any device and dtype.

Every propagator is one blend of the state h and the candidate n, with the gates of `torch.nn.GRU`:

    r = sigmoid(a_r + g_r)    z = sigmoid(a_z + g_z)    n = tanh(a_n + r g_n)    h+ = n + alpha(z) (h - n)

where a = x W_ih^T + b_ih is the projected input and g = h W_hh^T + b_hh. What tells propagators apart is
alpha(z) alone, see `Propagator`. `m` counts the fine steps that a propagator stands for: 1 for a fine step,
0 for a step past the end of a sequence (h+ = h), the valid steps of the interval for a coarse step.

Shapes: leading dimensions are free and written (...), H hidden units; a is (..., 3H) in the order r, z, n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from seqbraid.cells.base import Cell, CoarsePropagator, Parameters, State, StepCount

__all__ = [
    "CellKind",
    "GRUCell",
    "Propagator",
    "PropagatorKind",
    "adjoint_step",
    "candidate_weight",
    "gate_cotangents",
    "linearise",
    "step",
]

CellKind = Literal["classic", "implicit"]
PropagatorKind = Literal["classic", "implicit", "frozen"]


@dataclass(frozen=True)
class Propagator:
    """The blend factor alpha(z) of a step of length `gamma`, taken `m` at a time.

    | kind | alpha(z) | source |
    | --- | --- | --- |
    | classic | 1 - m gamma (1 - z) | explicit Euler; m = gamma = 1 is `torch.nn.GRU` |
    | implicit | 1 / (1 + m gamma (1 - z)) | Moon & Cyr, ICLR 2022: implicit in the stiff term only |
    | frozen | alpha_cell(z)^m | `cell`'s own m steps while its gates stand still |

    `cell` is the fine cell; only kind "frozen" reads it.
    """

    kind: PropagatorKind
    gamma: float
    cell: CellKind = "classic"

    def __post_init__(self) -> None:
        if self.kind not in get_args(PropagatorKind):
            raise ValueError(f"kind is {self.kind!r}; expected one of {get_args(PropagatorKind)}")

    def alpha(self, z: Tensor, m: StepCount = 1.0) -> Tensor:
        """Return alpha(z) over `m` fine steps, the shape of z."""
        if self.kind == "frozen":
            return torch.pow(self._fine().alpha(z), m)
        if self.kind == "classic":
            if self.gamma == 1.0 and isinstance(m, float) and m == 1.0:
                return z
            return 1.0 - (m * self.gamma) * (1.0 - z)
        return 1.0 / (1.0 + (m * self.gamma) * (1.0 - z))

    def alpha_derivative(self, z: Tensor, m: StepCount = 1.0) -> Tensor:
        """Return d alpha / d z over `m` fine steps, the shape of z."""
        if self.kind == "frozen":
            fine = self._fine()
            # m = 0 would divide by alpha, which may be zero; the factor m makes the term vanish anyway.
            exponent = m - 1.0 if isinstance(m, float) else (m - 1.0).clamp_min(0.0)
            return m * torch.pow(fine.alpha(z), exponent) * fine.alpha_derivative(z)
        if self.kind == "classic":
            return torch.ones_like(z) * (m * self.gamma)
        return (m * self.gamma) * self.alpha(z, m).square()

    def _fine(self) -> Propagator:
        return Propagator(self.cell, self.gamma)


def _gates(a: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return r, z, n and g_n, each (..., H)."""
    hidden = h.shape[-1]
    g = torch.nn.functional.linear(h, w_hh, b_hh)
    r_and_z = torch.sigmoid(a[..., : 2 * hidden] + g[..., : 2 * hidden])
    r, z = r_and_z[..., :hidden], r_and_z[..., hidden:]
    g_n = g[..., 2 * hidden :]
    n = torch.tanh(torch.addcmul(a[..., 2 * hidden :], r, g_n))
    return r, z, n, g_n


def step(
    a: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, propagator: Propagator, m: StepCount = 1.0
) -> Tensor:
    """Advance h (..., H) over `m` fine steps with projected input a (..., 3H); returns h+ (..., H)."""
    _, z, n, _ = _gates(a, h, w_hh, b_hh)
    # lerp returns h itself, to the bit, where alpha is 1: padding never changes a state.
    return torch.lerp(n, h, propagator.alpha(z, m))


def linearise(
    a: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor | None, propagator: Propagator, m: StepCount = 1.0
) -> Tensor:
    """Return the adjoint's factors (..., 5, H) of the step from h (..., H) with projected input a (..., 3H).

    They multiply lambda = dL/dh+, and nothing else of the step is needed: alpha itself; then what gives dL/dg
    for r, z and n; then what gives dL/da_n (for r and z, dL/da equals dL/dg).
    """
    r, z, n, g_n = _gates(a, h, w_hh, b_hh)
    alpha = propagator.alpha(z, m)
    candidate = (1.0 - alpha) * (1.0 - n * n)
    gate_r = candidate * g_n * r * (1.0 - r)
    gate_z = propagator.alpha_derivative(z, m) * (h - n) * z * (1.0 - z)
    return torch.stack([alpha, gate_r, gate_z, candidate * r, candidate], dim=-2)


def adjoint_step(factors: Tensor, cotangent: Tensor, w_hh: Tensor) -> Tensor:
    """Carry dL/dh+ (..., H) back over one step: alpha lambda + dg W_hh, the shape of `cotangent`.

    `factors` (..., 5, H) are those of `linearise`.
    """
    dg = (cotangent.unsqueeze(-2) * factors[..., 1:4, :]).flatten(-2)
    return torch.addcmul(dg @ w_hh, factors[..., 0, :], cotangent)


def gate_cotangents(factors: Tensor, cotangent: Tensor) -> Tensor:
    """Return (..., 4, H) of steps whose dL/dh+ (..., H) is known: dL/dg for r, z and n, and dL/da_n."""
    return cotangent.unsqueeze(-2) * factors[..., 1:, :]


def candidate_weight(alpha: Tensor, m: StepCount) -> Tensor:
    """Return how much of m frozen steps' candidate depends on the state before the first of them.

    A frozen step takes the candidate n of that state for all m steps, with the weight 1 - alpha^m. But n
    follows the state, and forgets the first one as the state does. With D = dn/dh, a fine step's Jacobian is
    about alpha + (1 - alpha) D, whose m-th power is alpha^m + m alpha^(m-1) (1 - alpha) D to first order in
    D; the ratio of the two weights is returned, for `alpha` (...) the m-th power. As the adjoint's coarse
    step the plain derivative of a frozen step overestimates what is carried back by far where intervals
    outlast the memory.
    """
    count = m if isinstance(m, float) else m.clamp_min(1)
    # By logarithms, which keep their digits near alpha = 1. Outside 0 to 1 (a step gamma above 1) there are
    # none.
    logarithm = alpha.clamp(torch.finfo(alpha.dtype).tiny, 1.0).log()
    one_step = logarithm / count
    weight = count * (logarithm - one_step).exp() * torch.expm1(one_step) / torch.expm1(logarithm)
    return torch.where((alpha < 1) & (alpha >= 0) & (one_step != logarithm), weight, 1.0)


class GRUCell(Cell):
    """The GRU as a step of an ODE, with the parameters of `torch.nn.GRU`.

    Args:
        input_size: I, features a step.
        hidden_size: H, hidden units.
        kind: "classic" (default), `torch.nn.GRU` at gamma = 1, or "implicit" (Moon & Cyr, ICLR 2022).
        gamma: step of the ODE (default 1.0).
        bias: whether there are biases (default True).

    """

    name = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        kind: CellKind = "classic",
        gamma: float = 1.0,
        bias: bool = True,
    ) -> None:
        if kind not in get_args(CellKind):
            raise ValueError(f"cell is {kind!r}; expected one of {get_args(CellKind)}")
        if not gamma > 0 or not math.isfinite(gamma):
            raise ValueError(f"gamma is {gamma!r}; expected a positive number")
        self.input_size = input_size
        self.state_sizes = (hidden_size,)
        self.kind: CellKind = kind
        self.gamma = gamma
        self.bias = bias

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Cell.parameter_shapes`."""
        (hidden,) = self.state_sizes
        shapes: dict[str, tuple[int, ...]]
        shapes = {"weight_ih": (3 * hidden, self.input_size), "weight_hh": (3 * hidden, hidden)}
        if self.bias:
            shapes |= {"bias_ih": (3 * hidden,), "bias_hh": (3 * hidden,)}
        return shapes

    def propagator(self, coarse: PropagatorKind | None = None) -> Propagator:
        """Return the fine propagator, or a coarse one of this kind."""
        return Propagator(coarse or self.kind, self.gamma, self.kind)

    def step(self, x: Tensor, state: State, parameters: Parameters) -> State:
        """See `Cell.step`."""
        return self._propagate(x, state, parameters, 1.0, None)

    def coarse_propagators(self) -> dict[str, CoarsePropagator]:
        """See `Cell.coarse_propagators`."""
        kinds: tuple[PropagatorKind, ...] = ("frozen", "implicit", "classic")
        return {kind: partial(self._propagate, coarse=kind) for kind in kinds}

    def _propagate(
        self, x: Tensor, state: State, parameters: Parameters, m: StepCount, coarse: PropagatorKind | None
    ) -> State:
        a = torch.nn.functional.linear(x, parameters["weight_ih"], parameters.get("bias_ih"))
        w_hh, b_hh = parameters["weight_hh"], parameters.get("bias_hh")
        return (step(a, state[0], w_hh, b_hh, self.propagator(coarse), m),)
