"""`seqbraid.GRU` as a module among PyTorch's: names, forms of the input, autograd's rules, errors."""

import copy

import pytest
import torch
from gru_cases import CONVERGED, data, make, worst
from reference import relative_error
from torch import nn

import seqbraid as sb


def test_same_seed_and_names_as_torch():
    torch.manual_seed(3)
    torchs = nn.GRU(4, 7, 2)
    torch.manual_seed(3)
    ours = sb.GRU(4, 7, 2)
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert all(torch.equal(one, torchs.state_dict()[name]) for name, one in ours.state_dict().items())
    torchs.load_state_dict(ours.state_dict())


def test_forms_of_the_input():
    module = make(sb.MGRIT(coarsening=4), 2)
    x, h0 = data(10, 3, 2)
    output, h_n = module(x, h0)
    first = make(sb.MGRIT(coarsening=4), 2)
    first.batch_first = True
    swapped, h_swapped = first(x.transpose(0, 1), h0)
    assert torch.equal(swapped, output.transpose(0, 1))
    assert torch.equal(h_swapped, h_n)
    alone, h_alone = module(x[:, 1], h0[:, 1])
    assert alone.shape == (10, 6)
    assert relative_error(alone, output[:, 1]) < 1e-14
    assert relative_error(h_alone, h_n[:, 1]) < 1e-14


def test_streaming_h_n_into_the_next_call_goes_on_where_it_was():
    module = make(sb.Serial(), 2)
    x, h0 = data(20, 3, 2)
    whole, h_n = module(x, h0)
    first, middle = module(x[:8], h0)
    second, last = module(x[8:], middle)
    assert relative_error(torch.cat([first, second]), whole) < 1e-14
    truth = torch.autograd.grad(h_n.sum(), [x, h0])
    found = torch.autograd.grad(last.sum(), [x, h0])
    assert worst(found, truth) < 1e-13


def test_several_forwards_before_one_backward():
    module = make(sb.MGRIT(coarsening=4, **CONVERGED))
    x, h0 = data(9)
    loss = module(x, h0)[0].sum() + 2 * module(x.flip(0), h0)[0].sum()
    found = torch.autograd.grad(loss, [x, module.weight_hh_l0])
    torchs = nn.GRU(5, 6, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    truth = torchs(x, h0)[0].sum() + 2 * torchs(x.flip(0), h0)[0].sum()
    assert worst(found, torch.autograd.grad(truth, [x, torchs.weight_hh_l0])) < 1e-10


def test_frozen_parameters_get_no_gradient_and_the_others_are_right():
    module = make(sb.MGRIT(coarsening=4, **CONVERGED))
    module.weight_ih_l0.requires_grad_(False)
    x, _ = data(9)
    module(x.detach())[0].sum().backward()
    torchs = nn.GRU(5, 6, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    torchs(x.detach())[0].sum().backward()
    assert module.weight_ih_l0.grad is None
    assert relative_error(module.bias_ih_l0.grad, torchs.bias_ih_l0.grad) < 1e-10


def test_no_grad_and_deepcopy():
    module = make(sb.MGRIT(coarsening=4))
    x, _ = data(9)
    with torch.no_grad():
        output, _ = module(x)
    assert not output.requires_grad
    assert torch.equal(copy.deepcopy(module)(x)[0], output)


def test_a_second_backward_and_double_backward_are_refused():
    module = make(sb.Serial())
    x, _ = data(4)
    loss = module(x)[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    gradient = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_weight_changed_between_forward_and_backward_is_noticed():
    module = make(sb.Serial())
    x, _ = data(4)
    loss = module(x)[0].sum()
    with torch.no_grad():
        module.weight_hh_l0.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden_size": 0}, ValueError, "hidden_size is 0"),
        ({"num_layers": 1.5}, ValueError, r"num_layers is 1\.5"),
        ({"cell": "lstm"}, ValueError, "cell is 'lstm'; expected one of"),
        ({"gamma": -1.0}, ValueError, r"gamma is -1\.0"),
        ({"dropout": 1.0}, ValueError, r"dropout is 1\.0"),
        ({"dtype": torch.float16}, ValueError, r"dtype is torch\.float16"),
        ({"solver": "mgrit"}, TypeError, "solver is a str"),
        ({"solver": sb.MGRIT(coarse="explicit")}, ValueError, "coarse is .explicit.; expected one of"),
        ({"solver": sb.MGRIT(storage="disk")}, ValueError, "storage is .disk.; expected one of"),
        ({"comm": 3}, TypeError, "comm is a int"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        sb.GRU(**{"input_size": 5, "hidden_size": 6, **arguments})


def test_a_step_that_is_set_later_is_checked_too():
    gru = sb.GRU(5, 6)
    gru.gamma = -1.0
    with pytest.raises(ValueError, match=r"gamma is -1\.0; expected a positive number"):
        gru(torch.zeros(4, 3, 5))


@pytest.mark.parametrize(
    ("x", "h0", "lengths", "error", "message"),
    [
        (torch.zeros(4, 3, 7), None, None, ValueError, r"x has shape \(4, 3, 7\); expected \(T, B, 5\)"),
        (torch.zeros(5), None, None, ValueError, r"x has shape \(5,\)"),
        (torch.zeros(4, 3, 5).double(), None, None, TypeError, "x is torch.float64"),
        (torch.zeros(0, 3, 5), None, None, ValueError, "no steps"),
        (torch.zeros(4, 0, 5), None, None, ValueError, "at least one sequence"),
        (torch.zeros(4, 3, 5), torch.zeros(1, 2, 6), None, ValueError, r"h0 has shape \(1, 2, 6\)"),
        (torch.zeros(4, 3, 5), None, [4, 4], ValueError, "2 lengths were given for 3 sequences"),
        (torch.zeros(4, 3, 5), None, [4, 5, 1], ValueError, "the length of sequence 1 is 5; expected 1 to 4"),
        (torch.zeros(4, 3, 5), None, [4, 0, 1], ValueError, "the length of sequence 1 is 0"),
        (torch.zeros(4, 3, 5), None, [4.0, 2.0, 1.0], TypeError, "whole number for each"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, h0, lengths, error, message):
    with pytest.raises(error, match=message):
        sb.GRU(5, 6)(x, h0, lengths)


def test_autocast_keeps_the_precision_of_the_weights():
    module = make(sb.MGRIT(coarsening=4), dtype=torch.float32)
    encoder = nn.Linear(5, 5)
    x = torch.randn(13, 2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = encoder(x)
        output, _ = module(encoded)
        output.square().sum().backward()
    assert encoded.dtype == torch.bfloat16
    assert output.dtype == torch.float32
    found = module.weight_hh_l0.grad.clone()
    module.zero_grad()
    module(encoded.detach().float())[0].square().sum().backward()
    assert torch.equal(found, module.weight_hh_l0.grad)
    assert encoder.weight.grad is not None


def test_gradient_clipping_sees_ordinary_gradients():
    module = make(sb.MGRIT(coarsening=4))
    x, _ = data(21)
    (100 * module(x)[0].sum()).backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    assert norm > 1
    total = torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()
    assert abs(float(total) - 1.0) < 1e-4
