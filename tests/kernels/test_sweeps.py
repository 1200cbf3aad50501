import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from reference import relative_error
from sweep_cases import Case, Tensors, adjoint, cases, forward

from seqbraid.cells import Propagator, gate_cotangents, step
from seqbraid.kernels import Intervals, gru_kernel
from seqbraid.kernels.fused import FusedSweeps
from seqbraid.kernels.plain import PlainSweeps

KERNELS = [PlainSweeps, FusedSweeps]
PROPAGATORS = [
    Propagator("classic", 1.0),
    Propagator("classic", 0.4),
    Propagator("implicit", 2.5),
    Propagator("frozen", 1.0, "classic"),
    Propagator("frozen", 1.3, "implicit"),
]


def agree(found, truth, tolerance):
    assert found.keys() == truth.keys()
    for name, tensor in truth.items():
        assert torch.isfinite(tensor).all(), f"{name} was not written everywhere"
        assert relative_error(found[name], tensor) < tolerance, name


def pair(case):
    tensors = Tensors(case)
    weights = tensors.w_hh, tensors.b_hh
    return tensors, FusedSweeps(*weights), PlainSweeps(*weights)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_fused_forward_sweeps_are_the_plain_ones(case):
    tensors, fused, plain = pair(case)
    agree(forward(fused, case, tensors), forward(plain, case, tensors), case.tolerance)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_fused_adjoint_sweeps_are_the_plain_ones(case):
    tensors, fused, plain = pair(case)
    # Random factors on short intervals, since they let cotangents grow; then those of a forward sweep.
    short = replace(case, length=min(case.length, 4))
    there = Tensors(short)
    agree(adjoint(fused, short, there), adjoint(plain, short, there), case.tolerance)
    tensors.factors = forward(plain, case, tensors)["factors"]
    agree(adjoint(fused, case, tensors), adjoint(plain, case, tensors), case.tolerance)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_carrying_alone_is_the_adjoint_sweep_without_weights(case):
    case = replace(case, length=min(case.length, 4), direct=True, source=False)
    tensors, fused, plain = pair(case)
    against = Intervals(case.T, case.length, not case.reverse)
    without = PlainSweeps(torch.zeros_like(tensors.w_hh), None)
    tensors.points.zero_()
    truth = adjoint(without, case, tensors)["ends"]
    for sweeps in (plain, fused):
        found = sweeps.carry(tensors.factors, tensors.direct, against)
        agree({"ends": found}, {"ends": truth}, case.tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 2, 3, 95, 96, 97, 98, 99, 193])
def test_any_number_of_rows(rows, dtype):
    for B in {1, rows}:
        case = Case(T=2 * rows // B, B=B, H=19, length=2, dtype=dtype, seed=rows, source=True, direct=True)
        assert case.intervals.count * B == rows
        tensors, fused, plain = pair(case)
        agree(forward(fused, case, tensors), forward(plain, case, tensors), case.tolerance)
        agree(adjoint(fused, case, tensors), adjoint(plain, case, tensors), case.tolerance)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 4, 11, 20])
@pytest.mark.parametrize(("propagator", "bias"), list(itertools.product(PROPAGATORS, [True, False])))
def test_sweeps_match_a_loop_and_autograd(kernel, propagator, bias, length, reverse):
    case = Case(
        T=11, B=3, length=length, reverse=reverse, propagator=propagator, bias=bias, counts="random",
        source=True, direct=True,
    )  # fmt: skip
    tensors = Tensors(case)
    a, points = tensors.a.requires_grad_(), tensors.points.requires_grad_()
    counts = tensors.counts.unsqueeze(-1).double()
    cotangent = torch.randn_like(tensors.points)
    states, ends, loss = [None] * case.T, [], 0.0
    blocks = [list(range(case.T))[first : first + length] for first in range(0, case.T, length)]
    if reverse:
        blocks = [block[::-1] for block in blocks[::-1]]
    for point, block in zip(points, blocks, strict=True):
        h = point
        for t in block:
            h = step(a[t], h, tensors.w_hh, tensors.b_hh, propagator, counts[t]) + tensors.source[t]
            states[t] = h
            loss = loss + (tensors.direct[t] * h).sum()
        ends.append(h)
    loss = loss + (cotangent * torch.stack(ends)).sum()
    truth_a, truth_points = torch.autograd.grad(loss, [a, points])

    sweeps = kernel(tensors.w_hh, tensors.b_hh)
    with torch.no_grad():
        found = forward(sweeps, case, tensors)
        assert relative_error(found["states"], torch.stack(states)) < 1e-13
        assert relative_error(found["ends"], torch.stack(ends)) < 1e-13
        # The adjoint runs from the last interval to the first, and adds no source of its own.
        tensors.source, tensors.points, tensors.factors = None, cotangent.flip(0), found["factors"]
        back = adjoint(sweeps, case, tensors)
        r_and_z, _, of_a_n = torch.split(back["gates"].flatten(-2), [2 * case.H, case.H, case.H], dim=-1)
    assert relative_error(back["ends"].flip(0), truth_points) < 1e-13
    assert relative_error(torch.cat([r_and_z, of_a_n], dim=-1), truth_a) < 1e-13
    assert torch.equal(back["gates"], gate_cotangents(found["factors"], back["cotangents"]))


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_not_asked_for_is_not_needed(kernel):
    case = Case(T=10, B=2, source=True, direct=True)
    tensors = Tensors(case)
    sweeps = kernel(tensors.w_hh, tensors.b_hh)
    whole = forward(sweeps, case, tensors)["ends"]
    arguments = (tensors.a, tensors.points, case.intervals, case.propagator, tensors.counts, tensors.source)
    assert torch.equal(sweeps.forward(*arguments), whole)
    back = adjoint(sweeps, case, tensors)["ends"]
    against = Intervals(case.T, case.length, True)
    assert torch.equal(
        sweeps.adjoint(tensors.factors, tensors.points, against, tensors.direct, tensors.source), back
    )


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("inputs", "hidden", "shape"), [(1, 1, (1, 1)), (9, 5, (7, 3)), (40, 17, (25, 8))])
def test_projection_is_one_product(kernel, inputs, hidden, shape, dtype):
    torch.manual_seed(0)
    w_hh, x = torch.randn(3 * hidden, hidden, dtype=dtype), torch.randn(*shape, inputs, dtype=dtype)
    first, second = (torch.randn(3 * hidden, inputs, dtype=dtype) for _ in range(2))
    bias = torch.randn(3 * hidden, dtype=dtype)
    sweeps = kernel(w_hh, None)
    eps = torch.finfo(dtype).eps
    for w_ih, b_ih, series in ((first, bias, x), (first, None, x.transpose(0, 1)), (second, None, x)):
        a = sweeps.project(series, w_ih, b_ih)
        assert a.is_contiguous()
        truth = series.double() @ w_ih.double().T + (0 if b_ih is None else b_ih.double())
        assert relative_error(a[..., : 3 * hidden].double(), truth) < 4 * eps
        # It serves a sweep as it is, padded or not.
        points = torch.zeros(1, a.shape[1], hidden, dtype=dtype)
        there = points, Intervals.one(len(a)), PROPAGATORS[0]
        end = PlainSweeps(w_hh, None).forward(truth.to(dtype), *there)
        for either in KERNELS:
            assert relative_error(either(w_hh, None).forward(a, *there), end) < 100 * eps


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("T", "B"), [(0, 3), (5, 0)])
def test_nothing_to_sweep(kernel, T, B):
    case = Case(T=T, B=B)
    tensors = Tensors(case)
    sweeps = kernel(tensors.w_hh, tensors.b_hh)
    assert forward(sweeps, case, tensors)["ends"].shape == (case.intervals.count, B, case.H)
    assert adjoint(sweeps, case, tensors)["ends"].shape == (case.intervals.count, B, case.H)
    carried = sweeps.carry(tensors.factors, torch.zeros(T, B, case.H).double(), case.intervals)
    assert carried.shape == (case.intervals.count, B, case.H)
    assert len(sweeps.project(torch.zeros(T, B, 4).double(), torch.zeros(15, 4).double(), None)) == T


def test_series_that_are_not_contiguous_are_refused_not_misread():
    case = Case(T=6, B=2)
    tensors = Tensors(case)
    apart = torch.empty(2, 6, case.H, dtype=torch.float64).transpose(0, 1)
    with pytest.raises(ValueError, match=r"a series of shape \(6, 2, 5\) is not contiguous"):
        gru_kernel(tensors.w_hh, None).forward(
            tensors.a, tensors.points, case.intervals, case.propagator, states=apart
        )


@pytest.mark.parametrize("kernel", [FusedSweeps, PlainSweeps])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_group_of_sequences_goes_as_it_does_among_all(kernel, reverse):
    torch.manual_seed(0)
    T, B, H = 7, 9, 5
    weights = torch.randn(3 * H, H, dtype=torch.float64) / H, torch.randn(3 * H, dtype=torch.float64)
    sweeps = kernel(*weights)
    a, direct = torch.randn(T, B, 3 * H, dtype=torch.float64), torch.randn(T, B, H, dtype=torch.float64)
    points, one = torch.randn(1, B, H, dtype=torch.float64), Intervals.one(T, reverse)
    propagator = Propagator("classic", 1.0)
    counts = (torch.rand(T, B) < 0.7).to(torch.int32)
    results = {}
    for groups in ([slice(0, B)], [slice(0, 4), slice(4, B)]):
        states = torch.zeros(T, B, H, dtype=torch.float64)
        factors = torch.zeros(T, B, 5, H, dtype=torch.float64)
        gates = torch.zeros(T, B, 4, H, dtype=torch.float64)
        ends, back = torch.zeros_like(points), torch.zeros_like(points)
        for group in groups:
            found = sweeps.forward(
                a, points, one, propagator, counts, states=states, factors=factors, group=group
            )
            ends[:, group] = found[:, group]
        for group in groups:
            turned = Intervals.one(T, not reverse)
            found = sweeps.adjoint(factors, points, turned, direct, gate_cotangents=gates, group=group)
            back[:, group] = found[:, group]
        results[len(groups)] = [states, factors, gates, ends, back]
    for whole, cut in zip(results[1], results[2], strict=True):
        torch.testing.assert_close(cut, whole, rtol=1e-13, atol=1e-13)


def test_a_group_of_sequences_in_several_intervals_is_refused():
    sweeps = FusedSweeps(torch.randn(9, 3), None)
    arguments = torch.randn(4, 2, 9), torch.randn(2, 2, 3), Intervals(4, 2), Propagator("classic", 1.0)
    with pytest.raises(ValueError, match="for 2 intervals"):
        sweeps.forward(*arguments, group=slice(0, 1))
