"""One GRU layer as an autograd function: the solver runs both ways, and no graph is kept per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from seqbraid.cells import CellKind
from seqbraid.comm import Communicator, ProcessGrid, sum_in_one_message
from seqbraid.kernels import Intervals, empty_series
from seqbraid.mgrit import (
    MGRIT,
    DirectionReport,
    Neighbours,
    Partition,
    Problem,
    Serial,
    Solution,
    SolveReport,
    relative_residuals,
    solve_in_parallel,
    solve_in_sequence,
)
from seqbraid.rnn.coarse import ForwardSteps, merge_inputs
from seqbraid.rnn.divergence import Divergence
from seqbraid.rnn.gradients import Gradients
from seqbraid.rnn.problems import AdjointProblem, ForwardProblem
from seqbraid.rnn.recurrence import Recurrence
from seqbraid.rnn.trajectory import Projection, Trajectory
from seqbraid.rnn.weight_sums import WeightSums

__all__ = ["LayerFunction", "LayerPlan"]


@dataclass(frozen=True)
class LayerPlan:
    """All that a layer's solve needs besides its tensors.

    `grid.sequence` shares the solve. `valid` (local steps, B) is true within each sequence's length, None
    where all steps are; `for_adjoint` tells whether a backward pass may follow. `weight_sums` is None where
    every layer sums its parameters' gradients itself; `places` are those of this layer's parameters there.
    """

    layer: int
    cell: CellKind
    gamma: float
    solver: Serial | MGRIT
    grid: ProcessGrid
    partition: Partition
    valid: Tensor | None
    report: SolveReport
    divergence: Divergence
    reverse: bool = False
    for_adjoint: bool = True
    weight_sums: WeightSums | None = None
    places: Sequence[int | None] = ()

    @property
    def communicator(self) -> Communicator:
        """The ranks that share the solve."""
        return self.grid.sequence

    @property
    def mgrit(self) -> MGRIT | None:
        """The parallel solver's options; None where the layer is solved step by step."""
        solver = self.solver
        return solver if isinstance(solver, MGRIT) and solver.levels > 1 else None

    @property
    def intervals(self) -> Intervals:
        """How this rank's slice is cut; a serial solver takes it as one interval."""
        steps = self.partition.steps
        if self.mgrit is None:
            return Intervals.one(steps, self.reverse)
        return Intervals(steps, self.mgrit.coarsening_of(0), self.reverse)

    @property
    def keeps_states(self) -> bool:
        """Whether all states and the adjoint's factors are kept, not the C-points alone."""
        return self.mgrit is None or self.mgrit.storage == "states"

    def neighbours(self, direction: str, against: bool) -> Neighbours:
        """Return the ranks around this one in a solve along, or against, the order of the layer."""
        what = f"GRU layer {self.layer}{' reverse' if self.reverse else ''}: {direction} solve"
        return Neighbours(self.communicator, self.partition, self.reverse != against, what)

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
    same on every rank. Parameters' gradients come back summed over the ranks, or as None where
    `plan.weight_sums` has them.
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
        keep = plan.for_adjoint and any(ctx.needs_input_grad)
        states, trajectory, coarse, entry, squares = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan, keep)
        h_n, entry = _final_state(states, h0, squares, entry, plan)
        put_off = plan.grid.data.size > 1
        if plan.divergence.wants_serial(entry, x.dtype, "forward", put_off):
            residuals = entry.residuals
            plan = replace(plan, solver=Serial())
            states, trajectory, coarse, entry, _ = _solve_forward(x, h0, w_ih, b_ih, recurrence, plan, keep)
            h_n, entry = _final_state(states, h0, None, entry, plan)
            entry = replace(entry, residuals=residuals, solved_serially=True)
        plan.report.forward.append(entry)

        output = states
        if plan.valid is not None:
            # Forward in time no step reads a state past a sequence's end, so that the kept ones may be zero
            # there.
            fill = states.masked_fill if plan.reverse else states.masked_fill_
            output = fill(~plan.valid.unsqueeze(-1), 0.0)
        ctx.plan = plan
        inputs = None if coarse is None else coarse.inputs
        counts = None if coarse is None or isinstance(coarse.counts, int) else coarse.counts
        ctx.coarse_count = None if coarse is None or counts is not None else coarse.counts
        kept = states if plan.keeps_states else None
        ctx.save_for_backward(
            x, w_ih, w_hh, b_ih, b_hh, trajectory.points, kept, trajectory.factors, inputs, counts
        )
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
        x, w_ih, w_hh, b_ih, b_hh, points, states, factors, coarse_inputs, coarse_counts = ctx.saved_tensors
        recurrence = Recurrence.of(w_hh, b_hh, plan.cell, plan.gamma)
        projection = None if plan.keeps_states else Projection(x, w_ih, b_ih)
        trajectory = Trajectory(
            recurrence, plan.intervals, points, _fine_counts(plan), states, factors, projection
        )
        coarse = None
        if plan.mgrit is not None:
            counts = ctx.coarse_count if coarse_counts is None else coarse_counts
            coarse = ForwardSteps(recurrence, plan.mgrit, coarse_inputs, counts, plan.reverse)
        direct = None
        if grad_output is not None:
            if plan.valid is not None:
                grad_output = grad_output.masked_fill(~plan.valid.unsqueeze(-1), 0.0)
            direct = grad_output.contiguous()
        initial = x.new_zeros(points.shape[1:]) if grad_h_n is None else grad_h_n.contiguous()

        needs_x, needs_h0, *needs_parameters, _ = ctx.needs_input_grad
        needs = (needs_x, *needs_parameters)
        problem = _AdjointSolve(trajectory, direct, initial, coarse, x, w_ih, needs, needs_h0)
        gradients, grad_h0, of_parameters = _solve_adjoint(problem, plan)
        return gradients.of_x(), grad_h0 if needs_h0 else None, *of_parameters, None


def _final_state(
    states: Tensor, h0: Tensor, squares: Tensor | None, entry: DirectionReport, plan: LayerPlan
) -> tuple[Tensor, DirectionReport]:
    """Return h_n (B, H) on every rank, and the report's entry with the residuals, both by one sum."""
    holds_last = plan.communicator.rank == plan.last_rank
    h_n = states[0 if plan.reverse else -1].clone() if holds_last else torch.zeros_like(h0)
    # In float64 on the CPU, as the squares are: a sum with zeros changes nothing.
    message = h_n.to("cpu", torch.float64)
    sums = [message] if squares is None else [message, squares]
    entry = _sum(sums, "final state and residuals", entry, plan)
    if plan.communicator.size > 1:
        h_n.copy_(message)
    return h_n, entry if squares is None else replace(entry, residuals=relative_residuals(squares))


def _sum(tensors: list[Tensor], what: str, entry: DirectionReport, plan: LayerPlan) -> DirectionReport:
    """Sum tensors over the ranks, in place, and charge the time to the entry."""
    start = plan.communicator.clock()
    sum_in_one_message(tensors, plan.communicator, f"GRU layer {plan.layer}: {what}")
    seconds = plan.communicator.clock() - start
    return replace(
        entry,
        seconds=entry.seconds + seconds,
        communication_seconds=entry.communication_seconds + seconds,
    )


def _fine_counts(plan: LayerPlan) -> Tensor | None:
    """Return 1 for steps of a sequence and 0 past its end (T, B); None where all are steps."""
    return None if plan.valid is None else plan.valid.to(torch.int32)


def _solve_forward(
    x: Tensor,
    h0: Tensor,
    w_ih: Tensor,
    b_ih: Tensor | None,
    recurrence: Recurrence,
    plan: LayerPlan,
    for_adjoint: bool,
) -> tuple[Tensor, Trajectory, ForwardSteps | None, DirectionReport, Tensor | None]:
    """Return all states (T, B, H), what the adjoint needs, level 1, the entry, its residuals' squares."""
    start = plan.communicator.clock()
    counts = _fine_counts(plan)
    projection = Projection(x, w_ih, b_ih)
    # One sweep alone can project chunk by chunk, in the cache; but not while the next rank waits for it.
    several = plan.mgrit is not None or plan.communicator.size > 1
    if several and plan.keeps_states:
        projection = projection.kept(recurrence.sweeps)
    coarse, coarse_seconds = None, 0.0
    if plan.mgrit is not None:
        before = plan.communicator.clock()
        coarse = _coarse_level(x, w_ih, b_ih, counts, recurrence, plan.mgrit, plan)
        coarse_seconds = plan.communicator.clock() - before
    states = empty_series((*x.shape[:2], h0.shape[-1]), x)
    factors = empty_series((*x.shape[:2], 5, h0.shape[-1]), x) if for_adjoint and plan.keeps_states else None
    inputs = Trajectory(recurrence, plan.intervals, h0.unsqueeze(0), counts, None, None, projection)
    problem = ForwardProblem(inputs, coarse, states, factors)
    neighbours = plan.neighbours("forward", against=False)
    solution = _solve(problem, h0, neighbours, plan, backward=False)
    trajectory = replace(inputs, points=solution.points, factors=factors)
    kept = [solution.points] + ([] if factors is None else [states, factors])
    kept += [] if coarse is None else [coarse.inputs]
    entry = _entry(plan, solution, problem.sweeps, neighbours, start)
    kept_bytes = sum(tensor.nbytes for tensor in kept) if for_adjoint else 0
    entry = replace(
        entry,
        kept_bytes=kept_bytes,
        steps=len(x),
        coarse_seconds=entry.coarse_seconds + coarse_seconds,
    )
    return states, trajectory, coarse, entry, solution.squares


def _coarse_level(
    x: Tensor,
    w_ih: Tensor,
    b_ih: Tensor | None,
    counts: Tensor | None,
    recurrence: Recurrence,
    options: MGRIT,
    plan: LayerPlan,
) -> ForwardSteps:
    """Build level 1. Inputs are merged before they are projected: it is the same, and less work."""
    each: int | Tensor = 1
    if counts is not None:
        each = counts
    elif plan.partition.total % options.slice_multiple:
        # The last interval is short, on whichever rank it lies: all ranks then count step by step.
        each = torch.ones(x.shape[:2], dtype=torch.int32, device=x.device)
    merged, merged_counts = merge_inputs(x, each, options.coarsening_of(0), options, plan.reverse)
    inputs = torch.nn.functional.linear(merged, w_ih, b_ih)
    return ForwardSteps(recurrence, options, inputs, merged_counts, plan.reverse)


@dataclass(frozen=True)
class _AdjointSolve:
    """What a backward pass starts from; `needs` as `Gradients` wants it."""

    trajectory: Trajectory
    direct: Tensor | None
    initial: Tensor
    coarse: ForwardSteps | None
    x: Tensor
    w_ih: Tensor
    needs: tuple[bool, bool, bool, bool, bool]
    needs_h0: bool

    def run(
        self, plan: LayerPlan, serially: bool
    ) -> tuple[Gradients, Tensor, DirectionReport, Tensor | None]:
        """Return this rank's share of the gradients, dL/dh at its first step, the entry and the squares."""
        start = plan.communicator.clock()
        neighbours = plan.neighbours("backward", against=True)
        gradients = Gradients(self.x, self.w_ih, self.needs)
        # In sequence the same factors serve, about the same states.
        problem = AdjointProblem(self.trajectory, self.direct, gradients, None if serially else self.coarse)
        if serially:
            solution = solve_in_sequence(problem, self.initial, neighbours)
        else:
            solution = _solve(problem, self.initial, neighbours, plan, backward=True)
        entry = _entry(plan, solution, problem.sweeps, neighbours, start)
        return gradients, solution.end, entry, solution.squares


def _solve_adjoint(solve: _AdjointSolve, plan: LayerPlan) -> tuple[Gradients, Tensor, list[Tensor | None]]:
    """Return the gradients, dL/dh0 and the parameters' gradients, the last two summed over the ranks."""
    sums = plan.weight_sums if plan.weight_sums is not None and plan.weight_sums.has(plan.layer) else None
    gradients, grad_h0, of_parameters, entry = _run_and_sum(solve, plan, serially=False, sums=sums)
    # At a gate all ranks raise together, and no sum of the layers above is left behind.
    put_off = plan.weight_sums is not None
    if plan.divergence.wants_serial(entry, grad_h0.dtype, "backward", put_off):
        residuals = entry.residuals
        gradients, grad_h0, of_parameters, entry = _run_and_sum(solve, plan, serially=True, sums=sums)
        entry = replace(entry, residuals=residuals, solved_serially=True)
    plan.report.backward.append(entry)
    if sums is not None:
        sums.start(plan.layer, of_parameters, plan.places, plan.report)
        of_parameters = [None] * len(of_parameters)
    return gradients, grad_h0, of_parameters


def _run_and_sum(
    solve: _AdjointSolve, plan: LayerPlan, serially: bool, sums: WeightSums | None
) -> tuple[Gradients, Tensor, list[Tensor | None], DirectionReport]:
    """Solve, and sum over the ranks of the sequence what is wanted at once, in one message.

    That is the gradient of h0 and the residuals, and the parameters' gradients where `sums` has them not.
    """
    gradients, grad_h0, entry, squares = solve.run(plan, serially)
    of_parameters = gradients.of_parameters()
    at_once = [] if sums is not None else [gradient for gradient in of_parameters if gradient is not None]
    if solve.needs_h0:
        holds_first = plan.communicator.rank == plan.first_rank
        grad_h0 = grad_h0.clone() if holds_first else torch.zeros_like(grad_h0)
        at_once.append(grad_h0)
    if squares is None:
        return gradients, grad_h0, of_parameters, _sum(at_once, "sum of the gradients", entry, plan)
    # A square may be too small or too large for the gradients' dtype: each rank fills in its own mantissas
    # and exponents, and a sum with zeros changes nothing.
    mantissas, exponents = torch.frexp(squares)
    table = grad_h0.new_zeros((plan.communicator.size, 2, *squares.shape))
    table[plan.communicator.rank] = torch.stack([mantissas, exponents.to(mantissas.dtype)])
    entry = _sum([*at_once, table], "sum of the gradients", entry, plan)
    each = table.to("cpu", torch.float64)
    total = torch.ldexp(each[:, 0], each[:, 1]).sum(dim=0)
    return gradients, grad_h0, of_parameters, replace(entry, residuals=relative_residuals(total))


def _solve(
    problem: Problem, initial: Tensor, neighbours: Neighbours, plan: LayerPlan, backward: bool
) -> Solution:
    solver = plan.mgrit
    if solver is None:
        return solve_in_sequence(problem, initial, neighbours)
    iterations = solver.backward_iterations if backward else solver.forward_iterations
    return solve_in_parallel(problem, initial, neighbours, solver, iterations)


def _entry(
    plan: LayerPlan, solution: Solution, sweeps: float, neighbours: Neighbours, start: float
) -> DirectionReport:
    return DirectionReport(
        plan.layer,
        (),
        plan.communicator.clock() - start,
        neighbours.seconds,
        round(sweeps),
        solution.coarse_sequences,
        solution.coarse_batches,
        plan.reverse,
        coarse_seconds=solution.coarse_seconds,
    )
