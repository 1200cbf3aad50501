"""One GRU layer as an autograd function: the solver runs both ways, and no graph is kept per step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from seqbraid.cells import CellKind, Linearisation, gate_cotangents
from seqbraid.comm import Communicator, sum_in_one_message
from seqbraid.gru.coarse import ForwardSteps
from seqbraid.gru.layout import Layout
from seqbraid.gru.problems import AdjointProblem, ForwardProblem
from seqbraid.gru.recurrence import Recurrence
from seqbraid.mgrit import (
    MGRIT,
    DirectionReport,
    Neighbours,
    Partition,
    Problem,
    Serial,
    Solution,
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
    reverse: bool = False

    @property
    def serial(self) -> bool:
        """Whether the layer is solved step by step."""
        return not isinstance(self.solver, MGRIT) or self.solver.levels == 1

    def layout(self) -> Layout:
        """Return how this rank's slice is cut into intervals."""
        return Layout.of(self.partition.steps, Serial() if self.serial else self.solver, self.reverse)

    def neighbours(self, direction: str, against: bool) -> Neighbours:
        """Return the ranks before and after this one in a solve along, or against, the order of the layer."""
        previous, following = self.partition.previous, self.partition.next
        if self.reverse != against:
            previous, following = following, previous
        what = f"GRU layer {self.layer}{' reverse' if self.reverse else ''}: {direction} solve"
        return Neighbours(self.communicator, previous, following, what)

    @property
    def first_rank(self) -> int:
        """The rank that holds the step at which the layer begins."""
        return self.partition.last_holder if self.reverse else self.partition.first_holder

    @property
    def last_rank(self) -> int:
        """The rank that holds the step at which the layer ends."""
        return self.partition.first_holder if self.reverse else self.partition.last_holder


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
        solved = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan)
        if _diverged(solved.entry, x.dtype, "forward", plan):
            residuals = solved.entry.residuals
            plan = replace(plan, solver=Serial())
            solved = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan)
            solved.entry = replace(solved.entry, residuals=residuals, solved_serially=True)
        plan.report.forward.append(solved.entry)

        states = solved.problem.states
        output = plan.layout().from_intervals(states)
        if plan.valid is not None:
            output = output.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
        h_n = states[-1, -1].clone() if solved.problem.intervals else torch.empty_like(h0)
        plan.communicator.broadcast(h_n, plan.last_rank, f"GRU layer {plan.layer}: final state")
        ctx.plan = plan
        ctx.save_for_backward(solved.cut_x, solved.a, states, solved.points, w_ih, w_hh, b_hh)
        ctx.set_materialize_grads(False)
        return output, h_n

    @staticmethod
    @once_differentiable
    def backward(  # noqa: D102
        ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return LayerFunction._backward(ctx, grad_output, grad_h_n)

    @staticmethod
    def _backward(ctx: Any, grad_output: Tensor | None, grad_h_n: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: LayerPlan = ctx.plan
        cut_x, a, states, points, w_ih, w_hh, b_hh = ctx.saved_tensors
        recurrence = Recurrence.of(w_hh, b_hh, plan.cell, plan.gamma)
        layout = plan.layout()
        valid = layout.valid_steps(plan.valid, states)
        before = torch.cat([points.unsqueeze(0), states[:-1]])
        fine = recurrence.linearise(a, before, valid)
        coarse = None
        if isinstance(plan.solver, MGRIT) and not plan.serial:
            coarse = ForwardSteps.of(recurrence, plan.solver, a, valid)
        direct = None
        if grad_output is not None:
            if plan.valid is not None:
                grad_output = grad_output.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
            direct = layout.to_intervals(grad_output)
        initial = states.new_zeros(states.shape[2:]) if grad_h_n is None else grad_h_n.contiguous()

        problem = AdjointProblem(w_hh, fine, direct, coarse, points, not plan.reverse)
        cotangents, grad_h0, entry = _solve_adjoint(problem, fine, direct, initial, w_hh, plan)
        plan.report.backward.append(entry)

        da, dg = gate_cotangents(fine, cotangents)
        da, dg = da.flatten(0, -2), dg.flatten(0, -2)
        needs = ctx.needs_input_grad
        grad_x = layout.from_intervals((da @ w_ih).view_as(cut_x)) if needs[0] else None
        gradients = [
            da.t() @ cut_x.flatten(0, -2) if needs[2] else None,
            dg.t() @ before.flatten(0, -2) if needs[3] else None,
            da.sum(dim=0) if needs[4] else None,
            dg.sum(dim=0) if needs[5] else None,
        ]
        computed = [gradient for gradient in gradients if gradient is not None]
        what = f"GRU layer {plan.layer}: sum of the gradients"
        sum_in_one_message(computed, plan.communicator, what)
        if needs[1]:
            what = f"GRU layer {plan.layer}: gradient of h0"
            grad_h0 = plan.communicator.broadcast(grad_h0.contiguous(), plan.first_rank, what)
        return grad_x, grad_h0 if needs[1] else None, *gradients, None


@dataclass
class _Forward:
    """A forward solve: the input and its projection cut into intervals, the C-points, the solved problem."""

    cut_x: Tensor
    a: Tensor
    points: Tensor
    problem: ForwardProblem
    entry: DirectionReport


def _solve_forward(
    x: Tensor, h0: Tensor, w_ih: Tensor, b_ih: Tensor | None, recurrence: Recurrence, plan: LayerPlan
) -> _Forward:
    start = plan.communicator.clock()
    layout = plan.layout()
    cut_x = layout.to_intervals(x)
    a = torch.nn.functional.linear(cut_x, w_ih, b_ih)
    valid = layout.valid_steps(plan.valid, a)
    coarse = None
    if isinstance(plan.solver, MGRIT) and not plan.serial:
        coarse = ForwardSteps.of(recurrence, plan.solver, a, valid)
    problem = ForwardProblem(recurrence, a, valid, coarse, plan.reverse)
    neighbours = plan.neighbours("forward", against=False)
    solution = _solve(problem, h0, neighbours, plan, backward=False)
    entry = _entry(plan, solution, problem.sweeps, neighbours, start)
    return _Forward(cut_x, a, solution.points, problem, entry)


def _solve_adjoint(
    problem: AdjointProblem,
    fine: Linearisation,
    direct: Tensor | None,
    initial: Tensor,
    w_hh: Tensor,
    plan: LayerPlan,
) -> tuple[Tensor, Tensor, DirectionReport]:
    """Return dL/dh at every step (c, n, B, H), dL/dh0 (right on the first rank only), the report's entry."""
    start = plan.communicator.clock()
    neighbours = plan.neighbours("backward", against=True)
    solution = _solve(problem, initial, neighbours, plan, backward=True)
    entry = _entry(plan, solution, problem.sweeps, neighbours, start)
    if not _diverged(entry, initial.dtype, "backward", plan):
        return problem.cotangents, solution.end, entry

    # The same factors, about the same states, as one interval.
    layout = plan.layout()
    whole = Layout.of(layout.steps, Serial(), plan.reverse)

    def in_one_piece(cut: Tensor) -> Tensor:
        return whole.to_intervals(layout.from_intervals(cut))

    factors = Linearisation(*(in_one_piece(factor) for factor in fine))
    one = None if direct is None else in_one_piece(direct)
    serial = AdjointProblem(w_hh, factors, one, None, initial.unsqueeze(0), not plan.reverse)
    solution = solve_in_sequence(serial, initial, neighbours)
    cotangents = layout.to_intervals(whole.from_intervals(serial.cotangents))
    seconds = plan.communicator.clock() - start
    return cotangents, solution.end, replace(entry, seconds=seconds, solved_serially=True)


def _solve(
    problem: Problem, initial: Tensor, neighbours: Neighbours, plan: LayerPlan, backward: bool
) -> Solution:
    solver = plan.solver
    if plan.serial or not isinstance(solver, MGRIT):
        return solve_in_sequence(problem, initial, neighbours)
    iterations = solver.backward_iterations if backward else solver.forward_iterations
    return solve_in_parallel(problem, initial, neighbours, solver, iterations)


def _entry(
    plan: LayerPlan, solution: Solution, sweeps: int, neighbours: Neighbours, start: float
) -> DirectionReport:
    return DirectionReport(
        plan.layer,
        solution.residuals,
        plan.communicator.clock() - start,
        neighbours.seconds,
        sweeps,
        solution.coarse_sequences,
        solution.coarse_batches,
        plan.reverse,
    )


def _diverged(entry: DirectionReport, dtype: torch.dtype, direction: str, plan: LayerPlan) -> bool:
    """Say whether a solve diverged and is to be done again in sequence; raise or warn as the options say."""
    solver = plan.solver
    if not isinstance(solver, MGRIT) or not has_diverged(entry.residuals, torch.finfo(dtype).eps):
        return False
    _tell_divergence(direction, entry, solver)
    return solver.on_divergence == "serial"


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
    warnings.warn(message + ending, SolverDivergedWarning, stacklevel=5)
