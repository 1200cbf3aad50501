"""Against the published equations, built from `torch.nn`'s modules and differentiated by autograd."""

import pytest
import torch
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.cells.layer_norm_gru import LayerNormGRU

INPUTS, H, B, T = 3, 6, 4, 17


class Published(nn.Module):
    """Equations 27 to 29 of Ba, Kiros & Hinton (2016), with torch.nn.GRU's order of gates and its z."""

    def __init__(self):
        super().__init__()
        self.gates_of_x, self.gates_of_h = nn.Linear(INPUTS, 2 * H, False), nn.Linear(H, 2 * H, False)
        self.candidate_of_x, self.candidate_of_h = nn.Linear(INPUTS, H, False), nn.Linear(H, H, False)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in (2 * H, 2 * H, H, H))
        for norm in self.norms:
            nn.init.normal_(norm.weight, 1.0, 0.2)
            nn.init.normal_(norm.bias, 0.0, 0.2)

    def forward(self, x, h):
        states = []
        for each in x:
            gates = self.norms[0](self.gates_of_x(each)) + self.norms[1](self.gates_of_h(h))
            r, z = torch.sigmoid(gates).split(H, dim=-1)
            n = torch.tanh(
                self.norms[2](self.candidate_of_x(each)) + r * self.norms[3](self.candidate_of_h(h))
            )
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states), h

    def as_parameters(self):
        """Return the parameters of the cell, as functions of these."""
        x_gates, h_gates, x_candidate, h_candidate = self.norms
        return {
            "weight_ih_l0": torch.cat([self.gates_of_x.weight, self.candidate_of_x.weight]),
            "weight_hh_l0": torch.cat([self.gates_of_h.weight, self.candidate_of_h.weight]),
            "gain_ih_l0": torch.cat([x_gates.weight, x_candidate.weight]),
            "bias_ih_l0": torch.cat([x_gates.bias, x_candidate.bias]),
            "gain_hh_l0": torch.cat([h_gates.weight, h_candidate.weight]),
            "bias_hh_l0": torch.cat([h_gates.bias, h_candidate.bias]),
        }


@pytest.fixture
def published():
    torch.manual_seed(0)
    return Published().double()


@pytest.mark.parametrize("solver", [sb.Serial(), sb.MGRIT(coarsening=4, tolerance=1e-14, max_iterations=40)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_states_and_gradients_are_the_published_ones(published, solver, ranks):
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    h0 = torch.randn(1, B, H, dtype=torch.float64)
    states, last = published(x, h0[0])
    (states.sum() + last.square().sum()).backward()
    weights = {name: value.detach() for name, value in published.as_parameters().items()}
    truth = {name: published_gradient(published, name) for name in weights}

    def on_rank(comm):
        module = sb.Recurrent(LayerNormGRU(INPUTS, H), dtype=torch.float64, solver=solver, comm=comm)
        module.load_state_dict(weights)
        output, h_n = module(x[sb.local_slice(T, comm, solver)], h0)
        (output.sum() + h_n.square().sum()).backward()
        return output.detach(), {name: each.grad for name, each in module.named_parameters()}

    found = sb.SimulatedWorld(ranks).run(on_rank)
    assert relative_error(torch.cat([output for output, _ in found]), states) < 1e-12
    for name, expected in truth.items():
        assert relative_error(found[0][1][name], expected) < 1e-11, name


def published_gradient(published, name):
    gates, candidate = {
        "weight_ih_l0": (published.gates_of_x.weight, published.candidate_of_x.weight),
        "weight_hh_l0": (published.gates_of_h.weight, published.candidate_of_h.weight),
        "gain_ih_l0": (published.norms[0].weight, published.norms[2].weight),
        "bias_ih_l0": (published.norms[0].bias, published.norms[2].bias),
        "gain_hh_l0": (published.norms[1].weight, published.norms[3].weight),
        "bias_hh_l0": (published.norms[1].bias, published.norms[3].bias),
    }[name]
    return torch.cat([gates.grad, candidate.grad])


def test_normalisations_begin_as_the_identity():
    module = sb.Recurrent(LayerNormGRU(INPUTS, H))
    assert (module.gain_ih_l0 == 1).all()
    assert (module.bias_hh_l0 == 0).all()
    assert module.weight_hh_l0.abs().max() <= H**-0.5


@pytest.mark.on_ranks(2, 4)
def test_ranks_of_a_job_agree_with_one_process(world):
    def gradients(comm):
        torch.manual_seed(0)
        solver = sb.MGRIT(coarsening=4, tolerance=1e-13, max_iterations=40)
        module = sb.Recurrent(LayerNormGRU(INPUTS, H), dtype=torch.float64, solver=solver, comm=comm)
        x = torch.randn(T, B, INPUTS, dtype=torch.float64)
        module(x[sb.local_slice(T, comm, solver)])[1].square().sum().backward()
        return [parameter.grad for parameter in module.parameters()]

    for one, other in zip(gradients(world), gradients(None), strict=True):
        assert relative_error(one, other) < 1e-11
