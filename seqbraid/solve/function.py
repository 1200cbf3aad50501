"""A model's solve as an autograd function: the solver runs both ways, and no graph is kept per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from seqbraid.comm import sum_in_one_message
from seqbraid.mgrit import (
    DirectionReport,
    Neighbours,
    Solution,
    has_diverged,
    relative_residuals,
    solve_in_parallel,
    solve_in_sequence,
)
from seqbraid.options import MGRIT
from seqbraid.solve.gradient_sums import GradientSums
from seqbraid.solve.model import ForwardProblem, Tensors
from seqbraid.solve.plan import SolvePlan

__all__ = ["solve"]


def solve(plan: SolvePlan, initial: Tensor, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Solve a model and return its output (steps, ...) and its last state, both differentiable; collective.

    `initial` (...) and the last state are the same on every rank along the sequence, and so are their
    gradients, each of which counts once. The gradients of tensors that are held everywhere come back summed
    over all ranks, those of owned ones over the data groups. The backward pass is collective too. Raises
    ValueError for several data groups without `plan.sums`.
    """
    if plan.sums is None and plan.keep and plan.grid.data.size > 1:
        raise ValueError(
            f"the plan has no sums for {plan.grid.data.size} data groups; expected those of GradientSums.of"
        )
    output, final = DifferentiableSolve.apply(plan, initial, *tensors)  # type: ignore[no-untyped-call]
    if plan.last:
        plan.divergence.exchange()
    return output, final


class DifferentiableSolve(Function):
    """`output, final = DifferentiableSolve.apply(plan, initial, *tensors)`."""

    @staticmethod
    def forward(ctx: Any, plan: SolvePlan, initial: Tensor, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:
        keep = plan.keep and any(ctx.needs_input_grad)
        done = _solve_or_retry(
            plan,
            "forward",
            initial.dtype,
            lambda in_sequence: _forward(plan, initial, tensors, keep, in_sequence),
            put_off=plan.grid.data.size > 1,
        )
        diverged = has_diverged(done.entry.residuals, torch.finfo(initial.dtype).eps)
        plan.ends.append(None if diverged else done.ends)
        output = done.problem.output()
        saved = done.problem.saved(done.points) if keep else []
        kept_bytes = sum(tensor.nbytes for tensor in saved if tensor is not None)
        plan.report.forward.append(replace(done.entry, kept_bytes=kept_bytes, steps=plan.partition.steps))
        ctx.plan, ctx.options = plan, done.options
        ctx.state_form = (initial.shape, initial.dtype, initial.device)
        ctx.count = len(tensors)
        ctx.save_for_backward(*tensors, *saved)
        ctx.set_materialize_grads(False)
        return output, done.final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_output: Tensor | None, of_final: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: SolvePlan = ctx.plan
        shape, dtype, device = ctx.state_form
        # Hooks on saved tensors may compute them anew: once is enough.
        everything = ctx.saved_tensors
        _, needs_initial, *needs = ctx.needs_input_grad
        start = _Cotangents(
            everything[: ctx.count],
            everything[ctx.count :],
            None if of_output is None else of_output.contiguous(),
            torch.zeros(shape, dtype=dtype, device=device) if of_final is None else of_final.contiguous(),
            tuple(needs),
            needs_initial,
        )
        with torch.autocast(device.type, enabled=False):
            of_initial, gradients = _solve_adjoint(plan, start, ctx.options)
        return None, of_initial, *gradients


class _Done(Protocol):
    entry: DirectionReport


D = TypeVar("D", bound=_Done)


def _solve_or_retry(
    plan: SolvePlan, direction: str, dtype: torch.dtype, attempt: Callable[[bool], D], put_off: bool
) -> D:
    """Solve by `attempt(in_sequence)`: in parallel, and again in sequence where that diverged, if asked for.

    The entry then has the residuals of the parallel solve. With `put_off` an error is raised by all groups
    together, see `Divergence`.
    """
    done = attempt(False)
    if not plan.divergence.wants_serial(done.entry, dtype, plan.model.name, direction, plan.solver, put_off):
        return done
    residuals = done.entry.residuals
    done = attempt(True)
    done.entry = replace(done.entry, residuals=residuals, solved_serially=True)
    return done


@dataclass
class _Forward:
    """A forward solve: where its last relaxation started and ended, and the last state on every rank."""

    entry: DirectionReport
    problem: ForwardProblem
    options: MGRIT | None
    points: Tensor
    ends: Tensor | None
    final: Tensor


def _forward(plan: SolvePlan, initial: Tensor, tensors: Tensors, keep: bool, in_sequence: bool) -> _Forward:
    start = plan.communicator.clock()
    options = None if in_sequence else plan.options
    problem = plan.model.forward(initial, tensors, options, keep)
    neighbours = plan.neighbours("forward", against=False)
    ends = None
    if options is None:
        solution = solve_in_sequence(problem, initial, neighbours)
    else:
        solution = solve_in_parallel(
            problem, initial, neighbours, options, options.forward_iterations, plan.guess
        )
        ends = (
            torch.cat([solution.points[1:], solution.end[None]]) if len(solution.points) else solution.points
        )
    entry = _entry(plan, solution, problem.sweeps, neighbours, start)
    final = solution.end.clone() if plan.holds_last_step else torch.zeros_like(initial)
    # In float64 on the CPU, as the squares are: a sum with zeros changes nothing.
    message = final.to("cpu", torch.float64)
    squares = solution.squares
    entry = _sum(
        plan, [message] if squares is None else [message, squares], "final state and residuals", entry
    )
    if plan.communicator.size > 1:
        final.copy_(message)
    if squares is not None:
        entry = replace(entry, residuals=relative_residuals(squares))
    return _Forward(entry, problem, options, solution.points, ends, final)


@dataclass(frozen=True)
class _Cotangents:
    """What a backward pass starts from: the model's tensors, what was saved, and the gradients handed in.

    `direct` (steps, ...) is that of the output, `final` that of the last state; `needs` tells which tensors'
    gradients are wanted.
    """

    tensors: Tensors
    saved: Tensors
    direct: Tensor | None
    final: Tensor
    needs: tuple[bool, ...]
    needs_initial: bool


@dataclass
class _Adjoint:
    """An adjoint solve: the gradients of the initial state and the tensors, but for what `sums` will sum."""

    entry: DirectionReport
    of_initial: Tensor
    gradients: list[Tensor | None]


def _solve_adjoint(
    plan: SolvePlan, start: _Cotangents, options: MGRIT | None
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients of the initial state and of the tensors; None where `plan.sums` has them."""
    sums = plan.sums if plan.sums is not None and plan.sums.has(plan.number) else None
    done = _solve_or_retry(
        plan,
        "backward",
        start.final.dtype,
        lambda in_sequence: _adjoint(plan, start, options, in_sequence, sums),
        # Where sums go on, all ranks raise together, and no sum of other solves is left behind.
        put_off=plan.sums is not None,
    )
    plan.report.backward.append(done.entry)
    gradients = done.gradients
    # Once it is decided which solve they are of: another group may have solved once, this one twice.
    sum_in_one_message(
        _held(plan, gradients, "owned"), plan.grid.data, f"{plan.model.name}: gradients of owned parameters"
    )
    if sums is not None:
        everywhere = [where == "everywhere" for where in plan.model.where]
        sums.start(
            plan.model.name,
            [each if chosen else None for each, chosen in zip(gradients, everywhere, strict=True)],
            plan.places,
            plan.report,
        )
        gradients = [None if chosen else each for each, chosen in zip(gradients, everywhere, strict=True)]
    return done.of_initial if start.needs_initial else None, gradients


def _adjoint(
    plan: SolvePlan, start: _Cotangents, options: MGRIT | None, in_sequence: bool, sums: GradientSums | None
) -> _Adjoint:
    begun = plan.communicator.clock()
    in_sequence = in_sequence or options is None
    problem = plan.model.adjoint(start.tensors, start.saved, start.direct, start.needs, options, in_sequence)
    neighbours = plan.neighbours("backward", against=True)
    if in_sequence or options is None:
        solution = solve_in_sequence(problem, start.final, neighbours)
    else:
        solution = solve_in_parallel(problem, start.final, neighbours, options, options.backward_iterations)
    entry = _entry(plan, solution, problem.sweeps, neighbours, begun)
    gradients = problem.gradients()
    of_initial = solution.end
    at_once = [] if sums is not None else _held(plan, gradients, "everywhere")
    if start.needs_initial:
        of_initial = of_initial.clone() if plan.holds_first_step else torch.zeros_like(of_initial)
        at_once.append(of_initial)
    squares = solution.squares
    if squares is None:
        return _Adjoint(_sum(plan, at_once, "sum of the gradients", entry), of_initial, gradients)
    # A square may be too small or too large for the gradients' dtype: each rank fills in its own mantissas
    # and exponents, and a sum with zeros changes nothing.
    mantissas, exponents = torch.frexp(squares)
    table = of_initial.new_zeros((plan.communicator.size, 2, *squares.shape))
    table[plan.communicator.rank] = torch.stack([mantissas, exponents.to(mantissas.dtype)])
    entry = _sum(plan, [*at_once, table], "sum of the gradients", entry)
    each = table.to("cpu", torch.float64)
    total = torch.ldexp(each[:, 0], each[:, 1]).sum(dim=0)
    return _Adjoint(replace(entry, residuals=relative_residuals(total)), of_initial, gradients)


def _held(plan: SolvePlan, gradients: Sequence[Tensor | None], wanted: str) -> list[Tensor]:
    """Return the gradients of the tensors that are held so."""
    pairs = zip(gradients, plan.model.where, strict=True)
    return [gradient for gradient, where in pairs if gradient is not None and where == wanted]


def _sum(plan: SolvePlan, tensors: list[Tensor], what: str, entry: DirectionReport) -> DirectionReport:
    """Sum tensors over the ranks along the sequence, in place, and charge the time to the entry."""
    start = plan.communicator.clock()
    sum_in_one_message(tensors, plan.communicator, f"{plan.model.name}: {what}")
    seconds = plan.communicator.clock() - start
    return replace(
        entry,
        seconds=entry.seconds + seconds,
        communication_seconds=entry.communication_seconds + seconds,
    )


def _entry(
    plan: SolvePlan, solution: Solution, sweeps: float, neighbours: Neighbours, start: float
) -> DirectionReport:
    return DirectionReport(
        plan.number,
        (),
        plan.communicator.clock() - start,
        neighbours.seconds,
        round(sweeps),
        solution.coarse_sequences,
        solution.coarse_batches,
        plan.model.reverse,
        coarse_seconds=solution.coarse_seconds,
    )
