import itertools

import numpy as np
import pytest
import torch

from seqbraid import GRU, MGRIT, Serial
from seqbraid.bench import (
    Comparison,
    Layer,
    Size,
    Times,
    UnequalLengths,
    compare,
    compare_lengths,
    double,
    draw_lengths,
    gradient_of,
    passes_of_lengths,
    profile,
    relative_error,
)
from seqbraid.bench.jax_scan import scan_gradients

SIZE = Size(T=40, B=3, I=2, H=6)
SOLVER = MGRIT(coarsening=4)


def reference_gradient(layer, lengths=None):
    """Return the gradient of a loss on the last state with torch.nn.GRU, one sequence at a time."""
    module = torch.nn.GRU(layer.size.I, layer.size.H, dtype=layer.dtype)
    module.load_state_dict(layer.weights)
    for number, length in enumerate(lengths or [layer.size.T] * layer.size.B):
        module(layer.series[:length, number])[1].square().sum().backward()
    return torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])


def test_a_comparison_times_every_contender_and_tells_the_error_of_mgrit():
    ticks = []
    layer = Layer(SIZE, gate_bias=3.0, dtype=torch.float64)
    row = compare(layer, SOLVER, 2, tick=lambda: ticks.append(1))
    assert set(row.times) - {"jax"} == {"torch", "serial", "mgrit"}
    assert all(len(times.seconds) == 2 for times in row.times.values())
    assert len(ticks) == 3 * len(row.times)

    module = GRU(SIZE.I, SIZE.H, dtype=torch.float64, solver=SOLVER)
    module.load_state_dict(layer.weights)
    module(layer.series)[1].square().sum().backward()
    expected = relative_error(gradient_of(module), reference_gradient(layer))
    assert expected > 1e-6
    assert row.gradient_error == pytest.approx(expected, rel=1e-6)


def test_figures_of_a_comparison_come_from_medians():
    times = {
        "torch": Times((6.0, 1.0, 9.0)),
        "serial": Times((3.0, 3.0, 2.0)),
        "mgrit": Times((12.0, 12.0, 5.0)),
    }
    row = Comparison(Size(T=1000, B=2, I=3, H=5), times, 0.0)
    assert row.microseconds("serial") == pytest.approx(3000.0)
    assert (row.ratio("serial"), row.ratio("mgrit")) == (2.0, 0.5)
    assert row.floor_microseconds(1260.0) == pytest.approx(1e6)  # 1260 operations a step


def test_lengths_are_between_a_quarter_and_all_of_the_steps():
    lengths = draw_lengths(Size(T=100, B=500, I=1, H=1))
    assert len(lengths) == 500
    assert 25 <= min(lengths) < 30
    assert max(lengths) == 100
    assert 55 < sum(lengths) / 500 < 70
    assert draw_lengths(Size(T=1, B=2, I=1, H=1)) == [1, 1]
    assert all(100 in draw_lengths(Size(T=100, B=2, I=1, H=1), seed) for seed in range(20))


def test_every_contender_sees_the_lengths():
    layer = Layer(SIZE, dtype=torch.float64)
    lengths = [40, 11, 26]
    exact = MGRIT(coarsening=4, forward_iterations=5, backward_iterations=5)
    passes = passes_of_lengths(layer, exact, lengths)
    assert len(passes) == 6
    assert isinstance(passes["serial", "unequal"][0].solver, Serial)
    assert passes["mgrit", "equal"][0].solver is passes["mgrit", "unequal"][0].solver is exact
    for (name, kind), (module, run) in passes.items():
        run()
        truth = reference_gradient(layer, lengths if kind == "unequal" else None)
        assert relative_error(gradient_of(module), truth) < 1e-12, (name, kind)


def test_unequal_lengths_are_timed_against_equal_ones():
    ticks = []
    row = compare_lengths(Layer(SIZE), SOLVER, 2, lambda: ticks.append(1))
    assert row.valid_fraction == sum(draw_lengths(SIZE)) / (40 * 3)
    assert len(ticks) == 6 * 3
    assert [len(times.seconds) for times in row.times.values()] == [2] * 6


def test_the_ratio_of_unequal_lengths_is_to_equal_ones():
    row = UnequalLengths(SIZE, 0.5, {("mgrit", "equal"): Times((4.0,)), ("mgrit", "unequal"): Times((2.0,))})
    assert row.ratio("mgrit") == 0.5


def test_doubling_tells_the_factor_to_the_row_before():
    ticks = []
    rows = double(Layer(Size(1, 1, 2, 3)), SOLVER, [8, 16, 32], 2, lambda: ticks.append(1))
    assert [row.size for row in rows] == [Size(T, 1, 2, 3) for T in (8, 16, 32)]
    assert rows[0].factors == {"serial": None, "mgrit": None}
    for before, row in itertools.pairwise(rows):
        for name in ("serial", "mgrit"):
            assert row.factors[name] == row.times[name].median / before.times[name].median
    assert len(ticks) == 3 * 2 * 3


def test_a_profile_lists_the_dearest_functions_of_one_pass():
    layer = Layer(SIZE)
    lines = profile(layer.module(Serial()), layer, lines=200)
    own = [line.own_seconds for line in lines]
    assert own == sorted(own, reverse=True)
    assert all(line.seconds >= line.own_seconds for line in lines)
    found = {line.where.split()[-1]: line for line in lines if "bench/layer.py" in line.where}
    assert found["forward_backward"].calls == 1
    assert len(profile(layer.module(Serial()), layer, lines=3)) == 3


@pytest.mark.parametrize("cell", ["classic", "implicit"])
def test_the_scan_of_jax_computes_the_same_gradient(cell):
    pytest.importorskip("jax")
    layer = Layer(SIZE, cell, gate_bias=1.0, dtype=torch.float64)
    module = layer.module(Serial())
    module(layer.series)[1].square().sum().backward()
    found = np.concatenate([np.asarray(each).ravel() for each in scan_gradients(layer, 1)()])
    assert relative_error(torch.from_numpy(found), gradient_of(module)) < 1e-13
