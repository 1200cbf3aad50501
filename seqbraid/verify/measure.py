"""Errors of MGRIT against the serial solution, in the states and in every gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from seqbraid.cells import CellKind
from seqbraid.comm import Communicator, SingleProcess
from seqbraid.mgrit import MGRIT, Serial, SolverDivergedWarning, has_diverged, local_slice
from seqbraid.rnn import GRU

__all__ = ["Case", "Errors", "solve", "verify"]

# Runs a function on every rank and returns rank 0's result.
OnRanks = Callable[[Callable[[Communicator], Any]], Any]


@dataclass(frozen=True)
class Case:
    """A layer with random weights and white-noise input: T steps, B sequences, I inputs, H hidden units.

    `gate_bias` is added to the bias of the update gate: the larger, the longer the memory. `loss` is the sum
    of squares of the "last" state or of "every" step's output.
    """

    T: int = 1024
    B: int = 8
    I: int = 9  # noqa: E741
    H: int = 64
    cell: CellKind = "classic"
    gamma: float = 1.0
    gate_bias: float = 4.0
    loss: Literal["last", "every"] = "last"
    dtype: torch.dtype = torch.float64
    seed: int = 0


@dataclass(frozen=True)
class Errors:
    """Relative errors (2-norm) after so many iterations: `of["states"]`, `of["weight_hh"]` and so on.

    That of the gradient of h0 is relative to the gradient of the last state, if that is the larger one.
    """

    iterations: int
    forward_residual: float
    backward_residual: float
    diverged: bool
    of: dict[str, float]


def solve(case: Case, solver: Serial | MGRIT, comm: Communicator) -> tuple[dict[str, Tensor], GRU]:
    """Return states, h_n and all gradients of a case, whole on every rank, and the module; collective."""
    torch.manual_seed(case.seed)
    gru = GRU(case.I, case.H, dtype=case.dtype, cell=case.cell, gamma=case.gamma, solver=solver, comm=comm)
    with torch.no_grad():
        gru.get_parameter("bias_hh_l0")[case.H : 2 * case.H] += case.gate_bias
    series = torch.randn(case.T, case.B, case.I, dtype=case.dtype)
    h0 = torch.zeros(1, case.B, case.H, dtype=case.dtype, requires_grad=True)
    x = series[local_slice(case.T, comm, solver)].clone().requires_grad_()
    output, h_n = gru(x, h0)
    (h_n if case.loss == "last" else output).square().sum().backward()
    assert x.grad is not None
    slices = comm.all_gather_objects((output.detach(), x.grad), "gathering the states")
    found = {
        "states": torch.cat([states for states, _ in slices]),
        "h_n": h_n.detach(),
        "x": torch.cat([gradient for _, gradient in slices]),
        "h0": h0.grad,
    }
    found |= {name.removesuffix("_l0"): parameter.grad for name, parameter in gru.named_parameters()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}, gru


def verify(
    case: Case, solvers: Iterable[MGRIT], iterations: Iterable[int], on_ranks: OnRanks
) -> list[list[Errors]]:
    """Return for each solver its errors after each number of forward and backward iterations.

    `on_ranks` decides what runs in parallel; the serial solution to compare with comes from one process. A
    diverging solve is marked, not raised.
    """
    truth, _ = solve(case, Serial(), SingleProcess())
    counts = list(iterations)
    table = []
    for solver in solvers:
        row = []
        for count in counts:
            tried = replace(
                solver,
                forward_iterations=count,
                backward_iterations=count,
                tolerance=None,
                on_divergence="warn",
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolverDivergedWarning)
                found, gru = on_ranks(lambda comm, tried=tried: solve(case, tried, comm))  # type: ignore[misc]
            forward, backward = gru.last_solve.forward[0], gru.last_solve.backward[0]
            epsilon = torch.finfo(case.dtype).eps
            row.append(
                Errors(
                    count,
                    forward.residual,
                    backward.residual,
                    any(has_diverged(each.residuals, epsilon) for each in (forward, backward)),
                    _relative_errors(found, truth),
                )
            )
        table.append(row)
    return table


def _relative_errors(found: dict[str, Tensor], truth: dict[str, Tensor]) -> dict[str, float]:
    scales = {name: torch.linalg.vector_norm(tensor) for name, tensor in truth.items()}
    # Where memory is short nothing of the loss reaches h0, so measure against what sets out at the end.
    scales["h0"] = torch.maximum(scales["h0"], 2.0 * scales["h_n"])
    return {name: float(torch.linalg.vector_norm(found[name] - truth[name]) / scales[name]) for name in truth}
