"""One GRU layer as an autograd function: the solver runs both ways, and no graph is kept per step."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from seqbraid.cells import CellKind, Linearisation, gate_cotangents
from seqbraid.comm import Communicator, sum_in_one_message
from seqbraid.gru.layout import Layout
from seqbraid.gru.problems import (
    AdjointProblem,
    CoarseLevel,
    ForwardProblem,
    Recurrence,
    linearise_coarse,
    linearise_fine,
)
from seqbraid.mgrit import (
    MGRIT,
    DirectionReport,
    Neighbours,
    Partition,
    Problem,
    Serial,
    SolverDivergedError,
    SolverDivergedWarning,
    SolveReport,
    has_diverged,
    solve_in_parallel,
    solve_in_sequence,
)

__all__ = ["LayerFunction", "LayerPlan"]


@dataclass(frozen=True)
class LayerPlan:
    """All that a layer's solve needs besides its tensors.

    `valid` (local steps, B) is true within each sequence's length, None where all steps are.
    """

    layer: int
    cell: CellKind
    gamma: float
    solver: Serial | MGRIT
    communicator: Communicator
    partition: Partition
    valid: Tensor | None
    report: SolveReport


class LayerFunction(Function):
    """`output, h_n = LayerFunction.apply(x, h0, w_ih, w_hh, b_ih, b_hh, plan)`.

    x (local steps, B, I) and output (local steps, B, H) are this rank's slice; h0 and h_n (B, H) are the
    same on every rank. Parameters' gradients come back summed over the ranks.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any,
        x: Tensor,
        h0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        plan: LayerPlan,
    ) -> tuple[Tensor, Tensor]:
        recurrence = Recurrence.of(w_hh, b_hh, plan.cell, plan.gamma)
        solver = plan.solver
        cut_x, a, points, problem, entry = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan)
        if isinstance(solver, MGRIT) and has_diverged(entry.residuals, torch.finfo(x.dtype).eps):
            _tell_divergence("forward", entry, solver)
            if solver.on_divergence == "serial":
                plan = replace(plan, solver=Serial())
                cut_x, a, points, problem, again = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan)
                entry = replace(again, residuals=entry.residuals, solved_serially=True)
        plan.report.forward.append(entry)

        layout = Layout.of(x.shape[0], plan.solver)
        output = layout.from_intervals(problem.states)
        if plan.valid is not None:
            output = output.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
        h_n = problem.states[-1, -1].clone() if problem.intervals else torch.empty_like(h0)
        plan.communicator.broadcast(
            h_n, plan.partition.last_holder, f"GRU layer {plan.layer}: final state of the forward solve"
        )
        ctx.plan = plan
        ctx.save_for_backward(cut_x, a, problem.states, points, w_ih, w_hh, b_hh)
        ctx.set_materialize_grads(False)
        return output, h_n

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102
        ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        plan: LayerPlan = ctx.plan
        cut_x, a, states, points, w_ih, w_hh, b_hh = ctx.saved_tensors
        recurrence = Recurrence.of(w_hh, b_hh, plan.cell, plan.gamma)
        layout = Layout.of(plan.partition.steps, plan.solver)
        valid = layout.valid_steps(plan.valid, states)

        previous_states = torch.cat([points.unsqueeze(0), states[:-1]])
        fine = linearise_fine(recurrence, a, previous_states, valid)
        direct = None
        if grad_output is not None:
            if plan.valid is not None:
                grad_output = grad_output.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
            direct = layout.to_intervals(grad_output)
        initial = states.new_zeros((states.shape[2], states.shape[3])) if grad_h_n is None else grad_h_n

        cotangents, grad_h0, entry = _solve_adjoint(
            recurrence, a, points, valid, fine, direct, initial.contiguous(), layout, plan
        )
        plan.report.backward.append(entry)

        da, dg = gate_cotangents(fine, cotangents)
        da, dg = da.flatten(0, -2), dg.flatten(0, -2)
        needs = ctx.needs_input_grad
        grad_x = layout.from_intervals((da @ w_ih).view_as(cut_x)) if needs[0] else None
        gradients = [
            da.t() @ cut_x.flatten(0, -2) if needs[2] else None,
            dg.t() @ previous_states.flatten(0, -2) if needs[3] else None,
            da.sum(dim=0) if needs[4] else None,
            dg.sum(dim=0) if needs[5] else None,
        ]
        _sum_over_ranks(gradients, plan)
        if needs[1]:
            what = f"GRU layer {plan.layer}: gradient of h0"
            grad_h0 = plan.communicator.broadcast(grad_h0, plan.partition.first_holder, what)
        return grad_x, grad_h0 if needs[1] else None, *gradients, None


def _solve_forward(
    x: Tensor, h0: Tensor, w_ih: Tensor, b_ih: Tensor | None, recurrence: Recurrence, plan: LayerPlan
) -> tuple[Tensor, Tensor, Tensor, ForwardProblem, DirectionReport]:
    """Return the cut input, its projection, the C-points, the solved problem and the report's entry."""
    start = time.perf_counter()
    layout = Layout.of(x.shape[0], plan.solver)
    cut_x = layout.to_intervals(x)
    a = torch.nn.functional.linear(cut_x, w_ih, b_ih)
    valid = layout.valid_steps(plan.valid, a)
    level = None
    if isinstance(plan.solver, MGRIT):
        level = CoarseLevel.of(plan.solver, recurrence.fine, a, valid)
    problem = ForwardProblem(recurrence, a, valid, level)
    neighbours = Neighbours(
        plan.communicator,
        plan.partition.previous,
        plan.partition.next,
        f"GRU layer {plan.layer}: forward solve",
    )
    points, _, residuals = _solve(problem, h0, neighbours, plan.solver, backward=False)
    entry = DirectionReport(plan.layer, residuals, time.perf_counter() - start)
    return cut_x, a, points, problem, entry


def _solve_adjoint(
    recurrence: Recurrence,
    a: Tensor,
    points: Tensor,
    valid: Tensor | None,
    fine: Linearisation,
    direct: Tensor | None,
    initial: Tensor,
    layout: Layout,
    plan: LayerPlan,
) -> tuple[Tensor, Tensor, DirectionReport]:
    """Return dL/dh at every step (c, n, B, H), dL/dh0 (right on the first rank only), the report's entry."""
    start = time.perf_counter()
    solver = plan.solver
    coarse = None
    if isinstance(solver, MGRIT):
        level = CoarseLevel.of(solver, recurrence.fine, a, valid)
        coarse = linearise_coarse(recurrence, level, points)
    # Time runs backwards: the next rank in time is the one before in the order of the solve.
    neighbours = Neighbours(
        plan.communicator,
        plan.partition.next,
        plan.partition.previous,
        f"GRU layer {plan.layer}: backward solve",
    )
    problem = AdjointProblem(recurrence.w_hh, fine, coarse, direct)
    _, carried, residuals = _solve(problem, initial, neighbours, solver, backward=True)
    cotangents = problem.cotangents
    entry = DirectionReport(plan.layer, residuals, time.perf_counter() - start)
    if isinstance(solver, MGRIT) and has_diverged(residuals, torch.finfo(a.dtype).eps):
        _tell_divergence("backward", entry, solver)
        if solver.on_divergence == "serial":

            def in_one_piece(cut: Tensor) -> Tensor:
                return layout.from_intervals(cut).unsqueeze(1)

            serial = AdjointProblem(
                recurrence.w_hh,
                Linearisation(*(in_one_piece(factor) for factor in fine)),
                None,
                None if direct is None else in_one_piece(direct),
            )
            _, carried, _ = _solve(serial, initial, neighbours, Serial(), backward=True)
            cotangents = layout.to_intervals(serial.cotangents.squeeze(1))
            entry = replace(entry, seconds=time.perf_counter() - start, solved_serially=True)
    return cotangents, carried, entry


def _solve(
    problem: Problem, initial: Tensor, neighbours: Neighbours, solver: Serial | MGRIT, backward: bool
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """Return the C-points (n, ...), the state at this rank's end (...) and the residuals."""
    if isinstance(solver, MGRIT):
        iterations = solver.backward_iterations if backward else solver.forward_iterations
        return solve_in_parallel(problem, initial, neighbours, solver, iterations)
    if problem.intervals == 0:
        return initial.new_empty((0, *initial.shape)), initial, ()
    start, end = solve_in_sequence(problem, initial, neighbours)
    return start.unsqueeze(0), end, ()


def _tell_divergence(direction: str, entry: DirectionReport, solver: MGRIT) -> None:
    history = ", ".join(f"{residual:.1e}" for residual in entry.residuals)
    message = (
        f"layer {entry.layer}: the {direction} solve diverged, relative residuals {history} (coarse="
        f"{solver.coarse!r}, coarse_step={solver.coarse_step!r}, coarsening={solver.coarsening})"
    )
    if solver.on_divergence == "raise":
        raise SolverDivergedError(
            f"{message}; take coarse='frozen', a smaller coarsening, or on_divergence='serial'"
        )
    ending = "; solved again in sequence" if solver.on_divergence == "serial" else ""
    warnings.warn(message + ending, SolverDivergedWarning, stacklevel=4)


def _sum_over_ranks(gradients: list[Tensor | None], plan: LayerPlan) -> None:
    """Sum the gradients that were computed over all ranks, in one message."""
    computed = [gradient for gradient in gradients if gradient is not None]
    sum_in_one_message(computed, plan.communicator, f"GRU layer {plan.layer}: sum of the gradients")
