"""The adjoint's coarse steps stand for powers of a fine step's Jacobian."""

import pytest
import torch
from reference import relative_error

import seqbraid as sb
from seqbraid.cells import GRUCell, Propagator, adjoint_step, linearise, step
from seqbraid.kernels import sweeps_for
from seqbraid.rnn.coarse import ForwardCoarseLevel

H = 6


def gradient(solver, bias, c=1024):
    torch.manual_seed(0)
    module = sb.GRU(5, H, dtype=torch.float64, solver=solver)
    with torch.no_grad():
        module.bias_ih_l0[H : 2 * H] += bias
    module(torch.randn(c, 2, 5, dtype=torch.float64))[1].square().sum().backward()
    return torch.cat([each.grad.reshape(-1) for each in module.parameters()])


def coarse_level(w_hh, gamma, a, counts):
    """Return the coarse level of a GRU with these inputs, frozen gates and recurrent weights."""
    parameters = {"weight_ih": torch.empty(3 * H, 1, dtype=w_hh.dtype), "weight_hh": w_hh}
    sweeps = sweeps_for(GRUCell(1, H, "classic", gamma, bias=False), parameters)
    return ForwardCoarseLevel(sweeps, sb.MGRIT(coarse="frozen"), a, counts, False)


@pytest.mark.parametrize("coarsening", [16, 64, 256])
@pytest.mark.parametrize("relaxation", ["F", "FCF"])
@pytest.mark.parametrize("bias", [0.0, 2.0])
def test_intervals_longer_than_the_memory_leave_no_error(coarsening, relaxation, bias):
    # The plain derivative of a frozen step carries back what the cell forgot: errors of a tenth with F.
    options = {"coarsening": coarsening, "relaxation": relaxation, "forward_iterations": 10}
    truth = gradient(sb.Serial(), bias)
    bound = 1e-2 if coarsening == 16 else 1e-4
    assert relative_error(gradient(sb.MGRIT(**options), bias), truth) < bound


@pytest.mark.parametrize("m", [1, 2, 7, 16])
@pytest.mark.parametrize("as_counts", [False, True])
def test_frozen_factors_are_those_of_a_power_of_the_fine_jacobian_to_first_order(m, as_counts):
    torch.manual_seed(0)
    # Weights so small that products of two of them do not matter, one update gate for all units, and a state
    # at which h = n: m fine steps of the adjoint about one state are then the power of the Jacobian.
    w_hh = 1e-6 * torch.randn(3 * H, H, dtype=torch.float64)
    a = torch.randn(1, 1, 3 * H, dtype=torch.float64)
    a[..., H : 2 * H] = 1.3
    h = torch.zeros(1, 1, H, dtype=torch.float64)
    for _ in range(2000):
        h = step(a, h, w_hh, None, Propagator("classic", 1.0))
    fine = linearise(a, h, w_hh, None, Propagator("classic", 1.0))
    truth = start = torch.randn(1, 1, H, dtype=torch.float64)
    for _ in range(m):
        truth = adjoint_step(fine, truth, w_hh)

    counts = torch.full((1, 1), m, dtype=torch.int32) if as_counts else m
    steps = coarse_level(w_hh, 1.0, a, counts)
    found = adjoint_step(steps.linearise(h), start, w_hh)
    diagonal = fine[..., 0, :] ** m * start
    # All but the diagonal, which is a million times larger.
    assert relative_error(found - diagonal, truth - diagonal) < 1e-4


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_adjoints_residual_does_not_depend_on_the_size_of_the_loss(ranks):
    def residuals(comm, scale):
        torch.manual_seed(0)
        solver = sb.MGRIT(coarsening=8)
        module = sb.GRU(5, H, solver=solver, comm=comm)
        with torch.no_grad():
            module.bias_ih_l0[H : 2 * H] += 4
        held = sb.local_slice(96, comm, solver)
        (scale * module(torch.randn(96, 2, 5)[held])[1].sum()).backward()
        return module.last_solve.backward[0].residuals

    # Squares of such cotangents are too small for float32, or too large.
    truth = sb.SimulatedWorld(ranks).run(lambda comm: residuals(comm, 1.0))[0]
    assert all(residual > 0 for residual in truth)
    for scale in (1e-25, 1e25):
        for found in sb.SimulatedWorld(ranks).run(lambda comm, scale=scale: residuals(comm, scale)):
            assert found == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.8])
def test_factors_are_finite_at_the_ends_of_alpha(gamma):
    w_hh = torch.randn(3 * H, H)
    a = torch.randn(4, 2, 3 * H)
    a[0, :, H : 2 * H], a[1, :, H : 2 * H] = -1e4, 1e4  # alpha of 0 and 1
    counts = torch.tensor([[0, 1], [2, 16], [16, 0], [256, 3]], dtype=torch.int32)
    steps = coarse_level(w_hh, gamma, a, counts)
    assert torch.isfinite(steps.linearise(torch.randn(4, 2, H))).all()
