import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from seqbraid.bench import (
    Layer,
    Size,
    flops_per_step,
    forward_backward,
    gradient_of,
    product_rate,
    relative_error,
)
from seqbraid.mgrit import Serial

SIZE = Size(T=7, B=2, I=3, H=5)


def test_the_floor_counts_the_products_by_hand():
    projection = 2 * 2 * 3 * 15  # (B, I) times (I, 3H), two operations a multiply-add
    recurrence = 2 * 2 * 5 * 15  # (B, H) times (H, 3H)
    transposed = recurrence  # (B, 3H) times (3H, H), backward
    weight_gradients = 2 * 2 * 15 * (5 + 3)  # (3H, B) times (B, H), and times (B, I)
    assert flops_per_step(SIZE) == projection + recurrence + transposed + weight_gradients == 1260


def test_the_floor_is_what_a_step_of_plain_torch_multiplies():
    for size in (SIZE, Size(T=1, B=4, I=6, H=8)):
        x, h = torch.randn(size.B, size.I), torch.randn(size.B, size.H, requires_grad=True)
        w_ih = torch.randn(3 * size.H, size.I, requires_grad=True)
        w_hh = torch.randn(3 * size.H, size.H, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            (functional.linear(x, w_ih) * functional.linear(h, w_hh)).sum().backward()
        assert flops_per_step(size) == counter.get_total_flops()


def test_the_rate_is_of_a_product_of_that_size(monkeypatch):
    clock = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr("seqbraid.bench.floor.stopwatch", lambda function: lambda: -next(clock) + next(clock))
    assert product_rate(torch.float32, n=10, repeats=2) == 2 * 10**3 / 2.0


def test_our_module_and_torchs_have_the_same_weights_and_gradients():
    layer = Layer(SIZE, gate_bias=2.0, dtype=torch.float64)
    ours, torchs = layer.module(Serial()), layer.torch_module()
    states, expected = (forward_backward(module, layer.series) for module in (ours, torchs))
    assert relative_error(states, expected) < 1e-14
    assert relative_error(gradient_of(ours), gradient_of(torchs)) < 1e-14
    assert gradient_of(ours).shape == (15 * (3 + 5 + 2),)


def test_a_second_pass_does_not_add_to_the_gradient_of_the_first():
    layer = Layer(SIZE)
    module = layer.module(Serial())
    forward_backward(module, layer.series)
    once = gradient_of(module).clone()
    forward_backward(module, layer.series)
    assert torch.equal(gradient_of(module), once)


def test_the_bias_goes_to_the_update_gate_alone():
    plain, biased = Layer(SIZE), Layer(SIZE, gate_bias=4.0)
    for name, tensor in plain.weights.items():
        difference = biased.weights[name] - tensor
        if name == "bias_ih_l0":
            assert torch.allclose(difference, torch.tensor([0.0] * 5 + [4.0] * 5 + [0.0] * 5))
        else:
            assert not difference.any()


def test_the_seed_decides_weights_and_input_and_leaves_torchs_generator_alone():
    before = torch.get_rng_state()
    same = Layer(SIZE, seed=3), Layer(SIZE, seed=3)
    other = Layer(SIZE, seed=4)
    assert torch.equal(same[0].series, same[1].series)
    assert torch.equal(same[0].weights["weight_hh_l0"], same[1].weights["weight_hh_l0"])
    assert not torch.equal(same[0].series, other.series)
    assert not torch.equal(same[0].weights["weight_hh_l0"], other.weights["weight_hh_l0"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_relative_error_is_relative_to_the_truth():
    assert relative_error(torch.tensor([3.0, 6.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.4)
