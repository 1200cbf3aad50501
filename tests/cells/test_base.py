import pytest
import torch

from seqbraid.cells import Cell, TanhRNN, pull_back


def test_pull_back_is_torchs_vector_jacobian_product():
    torch.manual_seed(0)
    u, W = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    cotangents = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)

    def function(u, W):
        return torch.tanh(u @ W), u * u

    with torch.no_grad():  # as within a backward pass
        found = pull_back(function, (u, W), cotangents)
    torch.testing.assert_close(found, torch.func.vjp(function, u, W)[1](cotangents))


def test_what_nothing_depends_on_has_a_gradient_of_zeros():
    u, other = torch.ones(2), torch.ones(3)
    assert [each.tolist() for each in pull_back(lambda u, other: (2 * u,), (u, other), (u,))] == [
        [2.0, 2.0],
        [0.0, 0.0, 0.0],
    ]
    some = pull_back(lambda u: (torch.ones(2), 3 * u), (u,), (u, u))
    assert some[0].tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match=r"autograd did not see it .* vjp by hand"):
        pull_back(lambda u: (torch.ones(2),), (u,), (u,))


def test_the_adjoint_of_a_step_is_that_of_autograd():
    torch.manual_seed(0)
    cell = TanhRNN(3, 4)
    parameters = {
        name: torch.randn(shape, dtype=torch.float64) for name, shape in cell.parameter_shapes().items()
    }
    x, h, cotangent = (torch.randn(2, 5, size, dtype=torch.float64) for size in (3, 4, 4))
    of_x, (of_h,), of_parameters = cell.vjp(x, (h,), parameters, (cotangent,))
    leaves = [each.clone().requires_grad_() for each in (x, h, *parameters.values())]
    step = cell.step(leaves[0], (leaves[1],), dict(zip(parameters, leaves[2:], strict=True)))
    truth = torch.autograd.grad(step, leaves, (cotangent,))
    torch.testing.assert_close((of_x, of_h, *of_parameters.values()), truth)


def test_the_relaxation_is_implicit_in_the_state_alone():
    class Constant(Cell):
        input_size, state_sizes = 1, (1, 2)

        def parameter_shapes(self):
            return {}

        def step(self, x, state, parameters):
            return torch.full_like(state[0], 3.0), torch.full_like(state[1], -1.0)

    cell, state = Constant(), (torch.ones(4, 1), torch.zeros(4, 2))
    m = torch.tensor([[0.0], [1.0], [2.0], [1e6]])
    first, second = cell.relax_implicitly(torch.zeros(4, 1), state, {}, m)
    torch.testing.assert_close(first[:, 0], torch.tensor([1.0, 2.0, 7.0 / 3.0, 3.0]))
    torch.testing.assert_close(second[:, 1], torch.tensor([0.0, -0.5, -2.0 / 3.0, -1.0]))
