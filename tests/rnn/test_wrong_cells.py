"""What a cell must not say, do or return is named where it happens."""

import pytest
import torch
from recurrent_cells import TanhRNNByHand
from torch import nn

import seqbraid as sb
from seqbraid.cells import TanhRNN

INPUTS, H = 3, 4


@pytest.mark.parametrize(
    ("cells", "options", "error", "message"),
    [
        ([], {}, TypeError, r"cells are \[\]; expected a seqbraid.Cell"),
        (TanhRNN, {}, TypeError, "cells are .'class TanhRNN'.; expected a seqbraid.Cell"),
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


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"input_size": 0}, "input_size is 0; expected a whole number of at least 1"),
        ({"state_sizes": 4}, r"state_sizes is 4; expected a tuple of sizes"),
        ({"parameter_shapes": dict}, r"parameter_shapes\(\) is {}; expected shapes by name, at least one"),
        ({"parameter_shapes": lambda: {"a.b": (2,)}}, "has a parameter 'a.b'; expected names like"),
        ({"parameter_shapes": lambda: {"a": 2}}, "has a parameter a of shape 2; expected a tuple"),
        ({"coarse_propagators": list}, r"coarse_propagators\(\) is \[\]; expected a dict of functions"),
    ],
)
def test_what_a_cell_says_of_itself_is_checked(names, message):
    cell = TanhRNN(INPUTS, H)
    for name, value in names.items():
        setattr(cell, name, value)
    with pytest.raises((TypeError, ValueError), match=message):
        sb.Recurrent(cell)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("solver", [sb.Serial(), sb.MGRIT(coarsening=4)])
def test_a_step_in_place_is_named(solver, grad):
    class InPlace(TanhRNN):
        def step(self, x, state, parameters):
            state[0].mul_(0.5)
            return super().step(x, state, parameters)

    class Spoiling(TanhRNN):
        def step(self, x, state, parameters):
            x.mul_(0.5)
            return super().step(x, state, parameters)

    for kind in (InPlace, Spoiling):
        module = sb.Recurrent(kind(INPUTS, H), solver=solver)
        with (
            torch.set_grad_enabled(grad),
            pytest.raises(
                ValueError, match=f"a step of {kind.__name__} changed its input or its state in place"
            ),
        ):
            module(torch.randn(8, 2, INPUTS), lengths=[8, 3])


def test_a_step_that_autograd_does_not_see_is_named():
    class Unseen(TanhRNN):
        def step(self, x, state, parameters):
            with torch.no_grad():
                return super().step(x, state, parameters)

    with pytest.raises(ValueError, match="autograd did not see it"):
        sb.Recurrent(Unseen(INPUTS, H))(torch.randn(3, 1, INPUTS))[1].sum().backward()


def test_gradients_of_a_wrong_shape_are_named():
    class Broadcasting(TanhRNNByHand):
        def vjp(self, x, state, parameters, cotangents):
            of_x, before, gradients = super().vjp(x, state, parameters, cotangents)
            return of_x, before, {name: each.sum() for name, each in gradients.items()}

    loss = sb.Recurrent(Broadcasting(INPUTS, H))(torch.randn(3, 1, INPUTS))[1].sum()
    with pytest.raises(ValueError, match=r"a gradient of weight_ih of shape \(\); expected \(4, 3\)"):
        loss.backward()
