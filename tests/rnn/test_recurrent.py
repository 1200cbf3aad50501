"""Any cell through the generic sweeps: in sequence, in parallel, on simulated ranks, against autograd."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_cells import GenericGRU, LSTMCell, TanhRNNByHand
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.cells import Cell, GRUCell, TanhRNN

INPUTS, H, B = 3, 4, 5


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


class Unit(Cell):
    """States of length 1, whose derivative at 0 is not finite; and an input whose root has none at 0."""

    def __init__(self):
        self.input_size, self.state_sizes = INPUTS, (H,)

    def parameter_shapes(self):
        return {"W": (H, INPUTS), "w": (H,)}

    def step(self, x, state, p):
        v = state[0] * p["w"] + x.abs().sqrt() @ p["W"].T
        return (v / v.norm(dim=-1, keepdim=True),)


@pytest.mark.parametrize("solver", [sb.Serial(), sb.MGRIT(coarsening=4, tolerance=1e-13, max_iterations=60)])
@pytest.mark.parametrize("storage", ["states", "c_points"])
def test_what_a_cell_makes_of_padding_does_not_matter(solver, storage):
    torch.manual_seed(0)
    if isinstance(solver, sb.MGRIT):
        solver = dataclasses.replace(solver, storage=storage)
    module = sb.Recurrent(Unit(), dtype=torch.float64, solver=solver)
    x = torch.randn(24, 2, INPUTS, dtype=torch.float64)
    x[7:, 1] = 0.0
    x.requires_grad_()
    h0 = torch.randn(1, 2, H, dtype=torch.float64)
    _, h_n = module(x, h0, [24, 7])
    found = torch.autograd.grad(h_n.sum(), [x, *module.parameters()])
    parameters = {name.removesuffix("_l0"): each for name, each in module.named_parameters()}
    ends = []
    for b, length in enumerate((24, 7)):
        state = (h0[0, b],)
        for t in range(length):
            state = Unit().step(x[t, b], state, parameters)
        ends.append(state[0])
    truth = torch.autograd.grad(torch.stack(ends).sum(), [x, *module.parameters()])
    assert relative_error(h_n[0], torch.stack(ends)) < 1e-11
    # Of x, what lies in the padding is 0 here: the root has no derivative there.
    for one, other in zip(found, truth, strict=True):
        assert relative_error(one, other) < 1e-10


@pytest.mark.parametrize("coarse", ["relaxation", None])
def test_a_step_that_is_no_torch_needs_its_own_adjoint_alone(coarse):
    class InNumPy(TanhRNNByHand):
        def step(self, x, state, parameters):
            (h,) = super().step(*(each.detach() for each in (x,)), (state[0].detach(),), parameters)
            return (torch.from_numpy(h.detach().numpy().copy()),)

    torch.manual_seed(0)
    x = torch.randn(40, B, INPUTS, dtype=torch.float64)
    found = []
    for kind in (InNumPy, TanhRNN):
        torch.manual_seed(1)
        solver = sb.MGRIT(coarsening=4, coarse=coarse, forward_iterations=2, backward_iterations=2)
        module = sb.Recurrent(kind(INPUTS, H), dtype=torch.float64, solver=solver)
        found.append(torch.autograd.grad(module(x)[1].square().sum(), list(module.parameters())))
    # Iteration for iteration: the coarse adjoint is the derivative of the relaxation either way.
    for one, other in zip(*found, strict=True):
        assert relative_error(one, other) < 1e-12


def test_each_layer_takes_a_coarse_propagator_of_its_own_cell():
    torch.manual_seed(0)
    cells = [TanhRNN(INPUTS, H), GRUCell(H, H), GenericGRU(H, H)]
    module = sb.Recurrent(cells, dtype=torch.float64, solver=sb.MGRIT(coarsening=4, tolerance=1e-13))
    exact = sb.Recurrent(cells, dtype=torch.float64)
    exact.load_state_dict(module.state_dict())
    x = torch.randn(30, B, INPUTS, dtype=torch.float64)
    h0 = torch.zeros(3, B, H, dtype=torch.float64)
    for one, other in zip(everything(module, x, h0), everything(exact, x, h0), strict=True):
        assert relative_error(one, other) < 1e-10
    with pytest.raises(ValueError, match=r"coarse is 'frozen'; expected one of \('relaxation',\)"):
        sb.Recurrent(cells, solver=sb.MGRIT(coarse="frozen"))


def test_a_cell_without_memory_does_not_diverge():
    class Forgetful(TanhRNN):
        def step(self, x, state, parameters):
            return super().step(x, (0 * state[0],), parameters)

    for solver in (sb.MGRIT(coarsening=4), sb.MGRIT(coarsening=4, tolerance=1e-9)):
        module = sb.Recurrent(Forgetful(INPUTS, H), solver=solver)
        output, _ = module(torch.randn(32, 2, INPUTS))
        output.sum().backward()
        assert module.last_solve.backward_residual == 0.0
        assert module.weight_ih_l0.grad.abs().sum() > 0


def test_an_array_is_no_tensor():
    with pytest.raises(TypeError, match=r"x is a ndarray; expected a torch\.Tensor"):
        sb.GRU(INPUTS, H)(torch.zeros(4, 1, INPUTS).numpy())


def test_ranks_that_would_do_different_things_are_noticed():
    def iterating(iterations):
        return sb.MGRIT(coarsening=4, forward_iterations=iterations)

    def refused(comm):
        x = torch.randn(32, B, INPUTS)[sb.local_slice(32, comm, 4)]
        made = {
            "cell or step": sb.GRU(INPUTS, H, gamma=0.5 + comm.rank, comm=comm),
            "solver": sb.GRU(
                INPUTS,
                H,
                solver=sb.MGRIT(coarsening=4, coarse=None, forward_iterations=1 + comm.rank),
                comm=comm,
            ),
            "choice of parameters to train": sb.GRU(INPUTS, H, comm=comm),
            "guess": sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=4), comm=comm),
        }
        frozen = made["choice of parameters to train"]
        (frozen.weight_ih_l0 if comm.rank else frozen.weight_hh_l0).requires_grad_(False)
        for what, module in made.items():
            for parameter in module.parameters():
                parameter.data.fill_(0.1)
            guess = [torch.zeros(4, B, H)] if what == "guess" and comm.rank else None
            with pytest.raises(ValueError, match=f"there is another {what} on rank 1 than on rank 0"):
                module(x, guess=guess)
        # A guess that only one rank cannot take.
        shape = (4 + comm.rank, B, H)
        with pytest.raises(ValueError, match=r"guess 0 has shape \(5, 5, 4\)|what rank 1 was given"):
            made["guess"](x, guess=[torch.zeros(shape)])

    sb.SimulatedWorld(2).run(refused)
