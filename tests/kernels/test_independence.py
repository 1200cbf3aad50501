"""Rows do not touch one another, however they are grouped, shared out or spoilt."""

from dataclasses import replace

import pytest
import torch
from reference import relative_error
from sweep_cases import Case, Tensors, adjoint, forward

from seqbraid.cells import Propagator
from seqbraid.kernels.fused import FusedSweeps
from seqbraid.kernels.plain import PlainSweeps

KERNELS = [PlainSweeps, FusedSweeps]
DTYPES = [torch.float32, torch.float64]
PROPAGATORS = [
    Propagator("classic", 1.0),
    Propagator("classic", 0.3),
    Propagator("implicit", 1.0),
    Propagator("frozen", 1.0, "classic"),
    Propagator("frozen", 0.7, "implicit"),
]


@pytest.fixture
def threads():
    """Return a function that sets the number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def everything(case, tensors):
    sweeps = FusedSweeps(tensors.w_hh, tensors.b_hh)
    carried = sweeps.carry(tensors.factors, tensors.direct, case.intervals)
    return [*forward(sweeps, case, tensors).values(), *adjoint(sweeps, case, tensors).values(), carried]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("T", "B", "length"), [(12, 1, 3), (20, 4, 20), (60, 11, 2), (300, 40, 300)])
def test_any_number_of_threads_gives_the_same_bits(threads, T, B, length, dtype):
    case = Case(T=T, B=B, H=21, length=length, dtype=dtype, counts="random", source=True, direct=True)
    tensors = Tensors(case)
    x, w_ih = torch.randn(T, B, 6, dtype=dtype), torch.randn(63, 6, dtype=dtype)
    results = []
    for number in (1, 2, 3, 8):
        threads(number)
        projected = FusedSweeps(tensors.w_hh, None).project(x, w_ih, None)
        results.append([projected, *everything(case, tensors)])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequence_alone_moves_as_it_does_among_others(dtype):
    case = Case(T=30, B=17, H=20, length=4, dtype=dtype, counts="random", source=True, direct=True)
    whole = Tensors(case)
    together = everything(case, whole)
    for b in (0, 7, 16):
        alone = Tensors(case)
        for name in ("a", "points", "counts", "source", "direct", "factors"):
            setattr(alone, name, getattr(whole, name)[:, b : b + 1].contiguous())
        found = everything(replace(case, B=1), alone)
        eps = torch.finfo(dtype).eps
        for one, many in zip(found, together, strict=True):
            assert relative_error(one[:, 0], many[:, b]) < 20 * eps


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_rows_past_the_end_keep_their_state_to_the_bit(kernel, propagator, dtype):
    case = Case(T=20, B=6, H=18, length=5, propagator=propagator, dtype=dtype, counts="random")
    tensors = Tensors(case)
    tensors.counts = torch.ones(20, 6, dtype=torch.int32)
    tensors.counts[13:, 2] = 0
    tensors.counts[:, 4] = 0
    found = forward(kernel(tensors.w_hh, tensors.b_hh), case, tensors)
    assert torch.equal(found["ends"][:, 4], tensors.points[:, 4])
    assert torch.equal(found["ends"][3, 2], tensors.points[3, 2])
    assert torch.equal(found["states"][13:15, 2], found["states"][12, 2].expand(2, -1))
    assert not torch.equal(found["ends"][:, 3], tensors.points[:, 3])
    # Their adjoint hands cotangents on and gives nothing to the weights.
    assert (found["factors"][:, 4, 0] == 1).all()
    assert (found["factors"][:, 4, 1:] == 0).all()
    tensors.factors = found["factors"]
    back = adjoint(kernel(tensors.w_hh, tensors.b_hh), case, tensors)
    assert torch.equal(back["ends"][:, 4], tensors.points[:, 4])
    assert (back["gates"][:, 4] == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("counts", [1, 16])
@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_an_update_gate_of_one_keeps_the_state_to_the_bit(kernel, propagator, counts, dtype):
    case = Case(T=6, H=18, length=3, propagator=propagator, counts=counts, dtype=dtype)
    tensors = Tensors(case)
    tensors.a[:, 1, case.H : 2 * case.H] = 1e4
    found = forward(kernel(tensors.w_hh, tensors.b_hh), case, tensors)
    assert torch.equal(found["ends"][:, 1], tensors.points[:, 1])
    assert (found["factors"][:, 1, 0] == 1).all()
    assert not torch.equal(found["ends"][:, 0], tensors.points[:, 0])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_an_update_gate_of_zero_leaves_finite_factors(kernel, propagator, dtype):
    # Frozen: alpha = 0, and alpha^(m - 1) must not divide by it.
    case = Case(T=6, H=18, length=3, propagator=propagator, counts="random", dtype=dtype)
    tensors = Tensors(case)
    tensors.a[..., case.H : 2 * case.H] = -1e4
    found = forward(kernel(tensors.w_hh, tensors.b_hh), case, tensors)
    assert all(torch.isfinite(tensor).all() for tensor in found.values())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_in_a_sequence_stays_in_it(kernel, dtype):
    case = Case(T=15, B=9, H=18, length=5, dtype=dtype, direct=True)
    clean, spoilt = Tensors(case), Tensors(case)
    spoilt.a[6, 3, 1] = spoilt.points[0, 5, 2] = spoilt.factors[6, 3, 1, 1] = torch.nan
    sweeps = kernel(clean.w_hh, clean.b_hh)
    for sweep in (forward, adjoint):
        expected, found = sweep(sweeps, case, clean), sweep(sweeps, case, spoilt)
        for name in expected:
            others = [b for b in range(9) if b not in (3, 5)]
            assert torch.equal(found[name][:, others], expected[name][:, others])
            assert found[name][:, 3].isnan().any()
            assert found[name][:, 5].isnan().any()
        # Not in another interval of the same sequence either.
        assert torch.isfinite(found["ends"][0 if sweep is adjoint else 2]).all(dim=-1)[3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["w_hh", "b_hh", "a", "points"])
@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_what_is_not_a_number_is_never_turned_into_one(where, value, propagator, dtype):
    case = Case(T=4, B=4, H=18, length=4, propagator=propagator, dtype=dtype)
    tensors = Tensors(case)
    getattr(tensors, where).view(-1)[[0, 20, 40]] = value
    found = forward(FusedSweeps(tensors.w_hh, tensors.b_hh), case, tensors)
    truth = forward(PlainSweeps(tensors.w_hh, tensors.b_hh), case, tensors)
    for name in ("ends", "states"):
        assert torch.equal(found[name].isnan(), truth[name].isnan()), name
    if value != value:
        assert found["states"].isnan().any()
    if value != value and where == "w_hh":
        assert found["ends"].isnan().all()
