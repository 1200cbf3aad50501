"""Any cell through the generic sweeps: in sequence, in parallel, on simulated ranks, against autograd."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.cells import Cell, GRUCell, TanhRNN

INPUTS, H, B = 3, 4, 5


class LSTMCell(Cell):
    """Two states, h and c, in the parameters and gates of `torch.nn.LSTM`."""

    def __init__(self, input_size, hidden_size):
        self.input_size, self.state_sizes = input_size, (hidden_size, hidden_size)

    def parameter_shapes(self):
        hidden = self.state_sizes[0]
        return {
            "weight_ih": (4 * hidden, self.input_size),
            "weight_hh": (4 * hidden, hidden),
            "bias_ih": (4 * hidden,),
            "bias_hh": (4 * hidden,),
        }

    def step(self, x, state, parameters):
        h, c = state
        gates = nn.functional.linear(x, parameters["weight_ih"], parameters["bias_ih"])
        gates = gates + nn.functional.linear(h, parameters["weight_hh"], parameters["bias_hh"])
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class GenericGRU(GRUCell):
    """The GRU without its kernels."""


class TanhRNNByHand(TanhRNN):
    """The same with an adjoint that is written out."""

    calls = 0

    def vjp(self, x, state, parameters, cotangents):
        TanhRNNByHand.calls += 1
        (h,), (h_next,) = state, self.step(x, state, parameters)
        before = cotangents[0] * (1 - h_next * h_next)
        flat, ones = before.flatten(0, -2), before.flatten(0, -2).sum(0)
        of_parameters = {
            "weight_ih": flat.t() @ x.flatten(0, -2),
            "weight_hh": flat.t() @ h.flatten(0, -2),
            "bias_ih": ones,
            "bias_hh": ones,
        }
        return before @ parameters["weight_ih"], (before @ parameters["weight_hh"],), of_parameters


MAKERS = {"rnn": TanhRNN, "by hand": TanhRNNByHand, "lstm": LSTMCell, "gru": GenericGRU}
TORCHS = {"rnn": nn.RNN, "by hand": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def states_of(name, shape):
    drawn = torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64)
    return drawn if name == "lstm" else drawn[0]


def everything(module, x, h0, lengths=None, weights=None):
    """Return output, last states, and the gradients of x, h0 and the parameters."""
    leaves = [h0] if isinstance(h0, torch.Tensor) else list(h0)
    for each in (x, *leaves):
        each.requires_grad_()
    output, h_n = module(x, h0, lengths) if lengths is not None else module(x, h0)
    last = [h_n] if isinstance(h_n, torch.Tensor) else list(h_n)
    loss = sum(each.square().sum() for each in last)
    loss = loss + (output * (1.0 if weights is None else weights)).sum()
    found = torch.autograd.grad(loss, [x, *leaves, *module.parameters()])
    return [output.detach(), *(each.detach() for each in last), *found]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_layers_of_a_cell_are_those_of_torch(name, bidirectional):
    torch.manual_seed(0)
    directions = 2 if bidirectional else 1
    reference = TORCHS[name](INPUTS, H, 2, bidirectional=bidirectional, dtype=torch.float64)
    cells = [MAKERS[name](INPUTS, H), MAKERS[name](directions * H, H)]
    for solver in (sb.Serial(), sb.MGRIT(coarsening=3, tolerance=1e-14, max_iterations=40)):
        module = sb.Recurrent(cells, bidirectional=bidirectional, dtype=torch.float64, solver=solver)
        module.load_state_dict(reference.state_dict())
        x, h0 = torch.randn(11, B, INPUTS, dtype=torch.float64), states_of(name, (2 * directions, B, H))
        found, truth = everything(module, x, h0), everything(reference, x, h0)
        for one, other in zip(found, truth, strict=True):
            assert relative_error(one, other) < 1e-12


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(MAKERS)),
    T=st.integers(1, 20),
    ranks=st.integers(1, 4),
    coarsening=st.integers(1, 6),
    levels=st.integers(2, 3),
    storage=st.sampled_from(["states", "c_points"]),
    reverse=st.booleans(),
    padded=st.booleans(),
    data=st.data(),
)
def test_ranks_and_unequal_lengths_change_nothing(
    name, T, ranks, coarsening, levels, storage, reverse, padded, data
):
    lengths = data.draw(st.lists(st.integers(1, T), min_size=B, max_size=B)) if padded else None
    solver = sb.MGRIT(
        coarsening=coarsening, levels=levels, storage=storage, tolerance=1e-13, max_iterations=60
    )
    directions = 2 if reverse else 1
    weights = torch.randn(T, B, directions * H, dtype=torch.float64)

    def on_rank(comm, solver):
        torch.manual_seed(1)
        cell = MAKERS[name](INPUTS, H)
        module = sb.Recurrent(cell, bidirectional=reverse, dtype=torch.float64, solver=solver, comm=comm)
        series = torch.randn(T, B, INPUTS, dtype=torch.float64)
        h0 = states_of(name, (directions, B, H))
        held = sb.local_slice(T, comm, solver)
        return everything(module, series[held].clone(), h0, lengths, weights[held])

    truth = on_rank(None, sb.Serial())
    found = sb.SimulatedWorld(ranks).run(lambda comm: on_rank(comm, solver))
    states = len(MAKERS[name](INPUTS, H).state_sizes)
    for number, expected in enumerate(truth):
        sliced = number in (0, 1 + states)  # the output and the gradient of x
        one = torch.cat([each[number] for each in found]) if sliced else found[0][number]
        assert relative_error(one, expected) < 1e-9, f"result {number}"


def test_a_handwritten_adjoint_is_used():
    before = TanhRNNByHand.calls
    module = sb.Recurrent(TanhRNNByHand(INPUTS, H), solver=sb.MGRIT(coarsening=4))
    module(torch.randn(12, B, INPUTS))[0].sum().backward()
    assert TanhRNNByHand.calls > before


@pytest.mark.parametrize("kind", ["classic", "implicit"])
@pytest.mark.parametrize("coarse", ["frozen", "implicit", "classic"])
def test_the_grus_kernels_are_the_generic_sweeps_of_its_cell(kind, coarse):
    """Iteration for iteration, but for the frozen adjoint, which takes a better coarse step."""
    torch.manual_seed(0)
    solver = sb.MGRIT(coarsening=3, coarse=coarse, coarse_step="unit" if coarse == "classic" else "scaled")
    fused = sb.GRU(INPUTS, H, cell=kind, gamma=0.7, dtype=torch.float64, solver=solver)
    generic = sb.Recurrent(GenericGRU(INPUTS, H, kind, 0.7), dtype=torch.float64, solver=solver)
    generic.load_state_dict(fused.state_dict())
    x, h0 = torch.randn(14, B, INPUTS, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    # A loss on the last state alone: what others add within intervals is only estimated for a guess.
    found, truth = everything(generic, x, h0, weights=0.0), everything(fused, x, h0, weights=0.0)
    iterated = range(2) if coarse == "frozen" else range(len(truth))
    for number in iterated:
        assert relative_error(found[number], truth[number]) < 1e-12
    assert generic.last_solve.forward_residual == pytest.approx(fused.last_solve.forward_residual, rel=1e-9)
    assert fused.last_solve.forward_residual > 1e-8  # so that there was something to compare


def test_the_relaxation_gains_with_every_iteration():
    torch.manual_seed(0)
    module = sb.Recurrent(
        TanhRNN(INPUTS, 32), dtype=torch.float64, solver=sb.MGRIT(coarsening=4, forward_iterations=3)
    )
    module(torch.randn(128, B, INPUTS, dtype=torch.float64))
    residuals = module.last_solve.forward[0].residuals
    assert all(new < old / 2 for old, new in itertools.pairwise(residuals))
    assert module.last_solve.forward[0].convergence_factor < 0.5


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_points_of_an_earlier_call_are_a_guess(ranks):
    def on_rank(comm):
        torch.manual_seed(0)
        solver = sb.MGRIT(coarsening=4, forward_iterations=1)
        gru = sb.GRU(INPUTS, H, 2, bidirectional=True, dtype=torch.float64, solver=solver, comm=comm)
        with torch.no_grad():
            for name, parameter in gru.named_parameters():
                if name.startswith("bias_hh"):
                    parameter[H : 2 * H] += 4
        x = torch.randn(60, B, INPUTS, dtype=torch.float64)[sb.local_slice(60, comm, solver)]
        residuals = []
        guess = None
        for _ in range(6):
            gru(x, guess=guess)
            residuals.append([entry.residuals for entry in gru.last_solve.forward])
            guess = gru.last_points
        return residuals

    residuals = sb.SimulatedWorld(ranks).run(on_rank)[0]
    for solve in range(4):
        history = [call[solve][-1] for call in residuals]
        # Each call goes on where the one before it ended, until it is exact.
        assert history[-1] < 1e-3 * history[0]
        if solve < 2:  # the second layer's input moves too
            assert residuals[1][solve][0] < 2 * residuals[0][solve][-1] < residuals[0][solve][0]


def test_a_guess_of_another_shape_is_named():
    gru = sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=4))
    x = torch.zeros(12, B, INPUTS)
    with pytest.raises(ValueError, match="guess has 2 tensors; expected 1"):
        gru(x, guess=[None, None])
    with pytest.raises(ValueError, match=r"guess 0 has shape \(2, 5, 4\); expected \(3, 5, 4\)"):
        gru(x, guess=[torch.zeros(2, B, H)])


@pytest.mark.parametrize(
    ("cells", "options", "error", "message"),
    [
        ([], {}, TypeError, r"cells are \[\]; expected a seqbraid.Cell"),
        ([nn.GRUCell(2, 3)], {}, TypeError, r"cells are \['GRUCell'\]"),
        ([TanhRNN(3, 4), TanhRNN(5, 4)], {}, ValueError, "cell of layer 1 takes 5 inputs; expected 4"),
        ([TanhRNN(3, 4), TanhRNN(4, 5)], {}, ValueError, "states of layer 1 have sizes"),
        (
            TanhRNN(3, 4),
            {"solver": sb.MGRIT(coarse="frozen")},
            ValueError,
            r"coarse is 'frozen'; expected one of \('relaxation',\)",
        ),
    ],
)
def test_cells_that_do_not_fit_are_named(cells, options, error, message):
    with pytest.raises(error, match=message):
        sb.Recurrent(cells, **options)


class Wrong(TanhRNN):
    """Returns what `made` makes of its state."""

    def __init__(self, made):
        super().__init__(INPUTS, H)
        self.made = made

    def step(self, x, state, parameters):
        return self.made(*super().step(x, state, parameters))


@pytest.mark.parametrize("solver", [sb.Serial(), sb.MGRIT(coarsening=4)])
@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (lambda h: h, TypeError, "a step of Wrong returned a Tensor; expected a tuple of 1"),
        (lambda h: (h, h), TypeError, "a step of Wrong returned 2 states; expected a tuple of 1"),
        (lambda h: (h[..., :2],), ValueError, r"returned a state of shape \(.*2\) .* expected \(.*4\)"),
        (lambda h: (h.double(),), ValueError, "torch.float64; expected .* torch.float32"),
    ],
)
def test_what_a_cell_must_not_return_is_named(made, error, message, solver):
    with pytest.raises(error, match=message):
        sb.Recurrent(Wrong(made), solver=solver)(torch.zeros(1, 1, INPUTS))


def test_an_adjoint_that_forgets_a_parameter_is_named():
    class Forgetful(TanhRNNByHand):
        def vjp(self, x, state, parameters, cotangents):
            of_x, before, gradients = super().vjp(x, state, parameters, cotangents)
            return of_x, before, {name: each for name, each in gradients.items() if name != "bias_hh"}

    loss = sb.Recurrent(Forgetful(INPUTS, H))(torch.zeros(3, 1, INPUTS))[0].sum()
    with pytest.raises(
        ValueError, match=r"Forgetful.vjp returned gradients of \['bias_ih', 'weight_hh', 'weight"
    ):
        loss.backward()
