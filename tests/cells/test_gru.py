import itertools

import pytest
import torch
from reference import relative_error
from torch import nn

from seqbraid.cells import Propagator, adjoint_step, gate_cotangents, linearise, step

B, H = 5, 4

PROPAGATORS = [
    Propagator("classic", 1.0),
    Propagator("classic", 0.4),
    Propagator("implicit", 1.0),
    Propagator("implicit", 2.5),
    Propagator("frozen", 1.0, "classic"),
    Propagator("frozen", 0.7, "classic"),
    Propagator("frozen", 1.3, "implicit"),
]
STEPS = [1.0, 6.0, torch.tensor([0.0, 1.0, 2.0, 3.0, 7.0], dtype=torch.float64).unsqueeze(1)]


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    a = torch.randn(B, 3 * H, dtype=torch.float64)
    h = torch.randn(B, H, dtype=torch.float64)
    w_hh = torch.randn(3 * H, H, dtype=torch.float64)
    b_hh = torch.randn(3 * H, dtype=torch.float64)
    return a, h, w_hh, b_hh


def test_classic_step_with_gamma_one_is_torchs_gru_cell():
    torch.manual_seed(1)
    cell = nn.GRUCell(3, H, dtype=torch.float64)
    x, h = torch.randn(B, 3, dtype=torch.float64), torch.randn(B, H, dtype=torch.float64)
    a = nn.functional.linear(x, cell.weight_ih, cell.bias_ih)
    found = step(a, h, cell.weight_hh, cell.bias_hh, Propagator("classic", 1.0))
    assert relative_error(found, cell(x, h)) < 1e-15


@pytest.mark.parametrize("gamma", [0.3, 1.0, 4.0])
def test_implicit_step_solves_the_published_equation(tensors, gamma):
    a, h, w_hh, b_hh = tensors
    new = step(a, h, w_hh, b_hh, Propagator("implicit", gamma))
    g = h @ w_hh.T + b_hh
    r, z = torch.sigmoid(a[:, :H] + g[:, :H]), torch.sigmoid(a[:, H : 2 * H] + g[:, H : 2 * H])
    n = torch.tanh(a[:, 2 * H :] + r * g[:, 2 * H :])
    assert relative_error((1 + gamma * (1 - z)) * new, h + gamma * (1 - z) * n) < 1e-15


@pytest.mark.parametrize("cell", ["classic", "implicit"])
@pytest.mark.parametrize("m", [1, 5, 16])
def test_frozen_propagator_is_m_fine_steps_while_gates_stand_still(tensors, cell, m):
    a, h, w_hh, b_hh = tensors
    still = torch.zeros_like(w_hh)  # gates that do not depend on h
    fine, coarse = Propagator(cell, 0.8), Propagator("frozen", 0.8, cell)
    repeated = h
    for _ in range(m):
        repeated = step(a, repeated, still, b_hh, fine)
    assert relative_error(step(a, h, still, b_hh, coarse, float(m)), repeated) < 1e-14


@pytest.mark.parametrize("propagator", PROPAGATORS)
def test_no_step_leaves_the_state_as_it_is_to_the_bit(tensors, propagator):
    a, h, w_hh, b_hh = tensors
    none = torch.zeros(B, 1, dtype=torch.float64)
    assert torch.equal(step(a, h, w_hh, b_hh, propagator, none), h)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("propagator", "m"), list(itertools.product(PROPAGATORS, STEPS)))
def test_adjoint_matches_autograd(tensors, propagator, m, bias):
    a, h, w_hh, b_hh = (tensor.requires_grad_() for tensor in tensors)
    cotangent = torch.randn(B, H, dtype=torch.float64)
    inputs = [a, h, w_hh] + ([b_hh] if bias else [])
    new = step(a, h, w_hh, b_hh if bias else None, propagator, m)
    truth = torch.autograd.grad(new, inputs, cotangent)
    with torch.no_grad():
        factors = linearise(a, h, w_hh, b_hh if bias else None, propagator, m)
        assert factors.shape == (B, 5, H)
        gates = gate_cotangents(factors, cotangent)
        assert gates.shape == (B, 4, H)
        dg, da = gates[:, :3].flatten(1), gates[:, [0, 1, 3]].flatten(1)
        found = [da, adjoint_step(factors, cotangent, w_hh), dg.T @ h, dg.sum(0)]
    for one, other in zip(found, truth, strict=False):
        assert relative_error(one, other) < 1e-13


def test_adjoint_is_finite_where_the_update_gate_is_zero_to_the_last_bit(tensors):
    a, h, w_hh, b_hh = tensors
    a[:, H : 2 * H] = -1e4  # z = 0, so alpha = 0 and alpha^(m - 1) must not divide by it
    m = torch.tensor([0.0, 1.0, 2.0, 3.0, 7.0], dtype=torch.float64).unsqueeze(1)
    factors = linearise(a, h, w_hh, b_hh, Propagator("frozen", 1.0), m)
    assert torch.isfinite(factors).all()
