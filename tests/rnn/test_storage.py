"""What is kept for the adjoint, and work that goes chunk by chunk, change memory and not results."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import relative_error

import seqbraid as sb
from seqbraid.rnn import problems

B, INPUTS, H = 2, 3, 4


def train(solver, T, lengths=None, reverse=False, per_step=True):
    """Return output, h_n and the gradients of x, h0 and all parameters, and the module."""
    torch.manual_seed(0)
    module = sb.GRU(INPUTS, H, dtype=torch.float64, solver=solver, bidirectional=reverse)
    x = torch.randn(T, B, INPUTS, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(1 + reverse, B, H, dtype=torch.float64, requires_grad=True)
    output, h_n = module(x, h0, lengths)
    loss = h_n.square().sum()
    if per_step:
        loss = loss + (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()
    return [output, h_n, *torch.autograd.grad(loss, [x, h0, *module.parameters()])], module


def worst(found, truth):
    return max(relative_error(one, other) for one, other in zip(found, truth, strict=True))


@pytest.fixture
def chunks_of_five_steps(monkeypatch):
    monkeypatch.setattr(problems, "steps_at_once", lambda batch, hidden: 5)


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    T=st.integers(1, 40),
    coarsening=st.integers(1, 12),
    storage=st.sampled_from(["states", "c_points"]),
    reverse=st.booleans(),
    per_step=st.booleans(),
    iterations=st.integers(0, 2),
)
def test_chunks_and_storage_change_nothing(data, T, coarsening, storage, reverse, per_step, iterations):
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    options = {
        "coarsening": coarsening,
        "forward_iterations": iterations,
        "backward_iterations": iterations,
        "on_divergence": "warn",
    }
    whole, _ = train(sb.MGRIT(**options), T, lengths, reverse, per_step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "steps_at_once", lambda batch, hidden: 5)
        cut, _ = train(sb.MGRIT(storage=storage, **options), T, lengths, reverse, per_step)
    assert worst(cut, whole) < 1e-12


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [23, 9]])
@pytest.mark.usefixtures("chunks_of_five_steps")
def test_a_serial_solve_in_chunks_is_the_same(reverse, lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "steps_at_once", lambda batch, hidden: 10**6)
        whole, _ = train(sb.Serial(), 23, lengths, reverse)
    cut, _ = train(sb.Serial(), 23, lengths, reverse)
    assert worst(cut, whole) < 1e-13


@pytest.mark.usefixtures("chunks_of_five_steps")
def test_a_diverging_adjoint_over_c_points_is_solved_again_in_sequence():
    options = {"coarse": "classic", "coarsening": 8, "storage": "c_points"}
    truth, _ = train(sb.Serial(), 64)
    solver = sb.MGRIT(
        **options, forward_iterations=20, backward_iterations=3, relaxation="F", on_divergence="serial"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "seqbraid.solve.divergence.has_diverged", lambda residuals, epsilon: len(residuals) == 4
        )
        with pytest.warns(sb.SolverDivergedWarning, match="backward"):
            found, module = train(solver, 64)
    assert module.last_solve.backward[0].solved_serially
    assert worst(found, truth) < 1e-12


@pytest.mark.parametrize("storage", ["states", "c_points"])
def test_the_report_tells_the_bytes_that_are_kept(storage):
    _, module = train(sb.MGRIT(coarsening=8, storage=storage), 64)
    # A C-point and a coarse step's projected input for 8 steps; a state and five factors for each.
    expected = (H + 3 * H) * 8 // 8 + (6 * H * 8 if storage == "states" else 0)
    report = module.last_solve.forward[0]
    assert (report.kept_bytes, report.bytes_per_step) == (64 * B * expected, B * expected)
    assert f"keeps {B * expected} bytes a step" in str(report)


def test_nothing_is_kept_where_no_gradient_is_asked_for():
    torch.manual_seed(0)
    module = sb.GRU(INPUTS, H)
    with torch.no_grad():
        module(torch.randn(8, B, INPUTS))
    assert module.last_solve.forward[0].kept_bytes == 0


def test_a_backward_pass_may_be_repeated():
    torch.manual_seed(0)
    module = sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=4))
    loss = module(torch.randn(40, B, INPUTS))[1].square().sum()
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_states_that_are_changed_before_the_backward_pass_are_an_error():
    module = sb.GRU(INPUTS, H)
    output, h_n = module(torch.randn(8, B, INPUTS))
    loss = h_n.sum()
    with torch.no_grad():
        output.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
