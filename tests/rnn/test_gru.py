import pytest
import torch
from gru_cases import CONVERGED, data, everything, make, worst
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import gru_loop, relative_error
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqbraid as sb

SOLVERS = [
    sb.Serial(),
    sb.MGRIT(coarsening=4, **CONVERGED),
    sb.MGRIT(coarsening=4, coarse="implicit", coarse_input="point", relaxation="F", **CONVERGED),
    sb.MGRIT(coarsening=3, initial_guess="zero", **CONVERGED),
    sb.MGRIT(coarsening=64, **CONVERGED),
    sb.MGRIT(coarsening=3, levels=3, c_weight=0.9, tolerance=1e-13, max_iterations=60),
    sb.MGRIT(coarsening=2, levels=5, relaxation="F", tolerance=1e-13, max_iterations=60),
    sb.MGRIT(coarsening=4, levels=1),
    sb.MGRIT(coarsening=4, storage="c_points", **CONVERGED),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(("T", "layers", "bias"), [(1, 1, True), (2, 3, True), (23, 1, False), (37, 3, True)])
def test_classic_cell_matches_torch(solver, T, layers, bias):
    module = make(solver, layers, bias=bias)
    torchs = nn.GRU(5, 6, layers, bias, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    x, h0 = data(T, layers=layers)
    assert worst(everything(module, module, x, h0), everything(torchs, torchs, x, h0)) < 1e-10


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(("cell", "gamma"), [("implicit", 1.0), ("implicit", 2.0), ("classic", 0.5)])
def test_other_cells_match_a_loop_under_autograd(solver, cell, gamma):
    module = make(solver, 2, cell, gamma)
    x, h0 = data(23, layers=2)
    truth = everything(lambda x, h: gru_loop(module, x, h, cell, gamma), module, x, h0)
    assert worst(everything(module, module, x, h0), truth) < 1e-10


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(("T", "layers"), [(1, 1), (2, 1), (23, 2), (37, 3)])
def test_both_directions_match_torch(solver, T, layers):
    module = make(solver, layers, bidirectional=True)
    torchs = nn.GRU(5, 6, layers, bidirectional=True, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    x, h0 = data(T, layers=2 * layers)
    assert worst(everything(module, module, x, h0), everything(torchs, torchs, x, h0)) < 1e-10


@settings(deadline=None, max_examples=40)
@given(
    data_=st.data(),
    T=st.integers(1, 40),
    B=st.integers(1, 4),
    coarsening=st.integers(2, 12),
    levels=st.integers(2, 3),
    coarse_input=st.sampled_from(["mean", "point"]),
    bidirectional=st.booleans(),
)
def test_unequal_lengths_match_a_packed_sequence(
    data_, T, B, coarsening, levels, coarse_input, bidirectional
):
    lengths = data_.draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    solver = sb.MGRIT(
        coarsening=coarsening,
        levels=levels,
        coarse_input=coarse_input,
        coarse="implicit",
        tolerance=1e-13,
        max_iterations=60,
    )
    module = make(solver, 2, bidirectional=bidirectional)
    torchs = nn.GRU(5, 6, 2, bidirectional=bidirectional, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    x, h0 = data(T, B, 4 if bidirectional else 2)

    def packed(x, h0):
        output, h_n = torchs(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False), h0)
        return pad_packed_sequence(output, total_length=T)[0], h_n

    found = everything(lambda x, h0: module(x, h0, lengths), module, x, h0)
    assert worst(found, everything(packed, torchs, x, h0)) < 1e-10


def test_what_lies_past_a_sequences_end_does_not_matter():
    module = make(sb.MGRIT(coarsening=4))
    x, _ = data(12)
    spoilt = x.detach().clone()
    spoilt[5:, 1] = torch.nan
    clean = module(x, lengths=[12, 5, 9])
    assert all(
        torch.equal(one, other) for one, other in zip(module(spoilt, lengths=[12, 5, 9]), clean, strict=True)
    )


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_packed_sequence_comes_back_packed_as_from_torch(enforce_sorted, batch_first):
    lengths = torch.tensor([9, 7, 7, 2] if enforce_sorted else [7, 2, 9, 7])
    module = make(sb.MGRIT(coarsening=4, **CONVERGED), 2, bidirectional=True, batch_first=batch_first)
    torchs = nn.GRU(5, 6, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    torchs.load_state_dict(module.state_dict())
    x, h0 = data(9, 4, 4)
    x = x.transpose(0, 1) if batch_first else x
    packed = pack_padded_sequence(x, lengths, batch_first, enforce_sorted)
    (found, h_found), (truth, h_truth) = module(packed, h0), torchs(packed, h0)
    assert relative_error(found.data, truth.data) < 1e-10
    assert relative_error(h_found, h_truth) < 1e-10
    assert torch.equal(found.batch_sizes, truth.batch_sizes)
    for one, other in zip(found[2:], truth[2:], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    with pytest.raises(ValueError, match="has its own lengths"):
        module(packed, h0, [9, 7, 7, 2])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_inf_are_named_before_the_solve(value):
    module = make(sb.MGRIT(coarsening=4))
    x, h0 = (each.detach() for each in data(12))
    x[5:7, 1] = value
    with pytest.raises(ValueError, match="x holds 10 values that are nan or inf"):
        module(x)
    with pytest.raises(ValueError, match="x holds 5 values that are nan or inf"):
        module(x, lengths=[12, 6, 9])
    module(x, lengths=[12, 5, 9])
    h0[0, 0, 0] = value
    with pytest.raises(ValueError, match="h0 holds nan or inf"):
        module(torch.zeros_like(x), h0)


@pytest.mark.parametrize(
    "solver", [sb.Serial(), sb.MGRIT(coarsening=8, **CONVERGED)], ids=["serial", "mgrit"]
)
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_float32_agrees_to_its_rounding(solver, layers, bidirectional):
    module = make(solver, layers, dtype=torch.float32, bidirectional=bidirectional)
    torchs = nn.GRU(5, 6, layers, bidirectional=bidirectional)
    torchs.load_state_dict(module.state_dict())
    x, h0 = data(50, layers=layers * (2 if bidirectional else 1), dtype=torch.float32)
    lengths = [50, 13, 31]

    def packed(x, h0):
        output, h_n = torchs(pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False), h0)
        return pad_packed_sequence(output)[0], h_n

    found = everything(lambda x, h0: module(x, h0, lengths), module, x, h0)
    assert worst(found, everything(packed, torchs, x, h0)) < 1e-5


@pytest.mark.parametrize("layers", [1, 3])
def test_float32_implicit_cell_agrees_to_its_rounding(layers):
    module = make(sb.MGRIT(coarsening=8, **CONVERGED), layers, "implicit", dtype=torch.float32)
    x, h0 = data(50, layers=layers, dtype=torch.float32)
    lengths = [50, 13, 31]
    truth = everything(lambda x, h: gru_loop(module, x, h, "implicit", 1.0, lengths), module, x, h0)
    assert worst(everything(lambda x, h: module(x, h, lengths), module, x, h0), truth) < 1e-5


def test_gradcheck_of_a_converged_solve():
    module = make(sb.MGRIT(coarsening=2, **CONVERGED), sizes=(2, 3))
    x, h0 = data(5, 2, sizes=(2, 3))
    assert torch.autograd.gradcheck(lambda x, h0: module(x, h0, [5, 3]), (x, h0))


def long_memory(T=128, B=20, I=9, H=32, bias=0.0, solver=None):  # noqa: E741
    """A float32 module with white noise, and its serial twin; `bias` on the update gate gives long memory."""
    torch.manual_seed(0)
    parallel, serial = (sb.GRU(I, H, solver=each) for each in (solver, sb.Serial()))
    with torch.no_grad():
        parallel.bias_hh_l0[H : 2 * H] += bias
    serial.load_state_dict(parallel.state_dict())
    return parallel, serial, torch.randn(T, B, I)


@pytest.mark.parametrize("bias", [0.0, 4.0])
def test_few_iterations_gain_at_least_ten_times_each(bias):
    errors = []
    for iterations in (1, 2, 3):
        parallel, serial, x = long_memory(
            bias=bias, solver=sb.MGRIT(coarsening=8, forward_iterations=iterations)
        )
        with torch.no_grad():
            errors.append(relative_error(parallel(x)[0], serial(x)[0]))
    assert errors[0] < 2e-2
    assert errors[1] < errors[0] / 10
    assert errors[2] < errors[1] / 10


@pytest.mark.parametrize("loss", ["last state", "every output"])
def test_one_iteration_each_way_gives_weight_gradients_to_two_percent(loss):
    parallel, serial, x = long_memory(solver=sb.MGRIT(coarsening=4))
    gradients = []
    for module in (parallel, serial):
        output, h_n = module(x)
        target = h_n if loss == "last state" else output
        target.square().sum().backward()
        gradients.append(torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()]))
    assert 0 < relative_error(*gradients) < 2e-2


def test_residual_tells_how_good_the_solution_is():
    residuals, errors = [], []
    for iterations in (1, 2, 4):
        parallel, serial, x = long_memory(solver=sb.MGRIT(coarsening=8, forward_iterations=iterations))
        with torch.no_grad():
            errors.append(relative_error(parallel(x)[0], serial(x)[0]))
        residuals.append(parallel.last_solve.forward_residual)
    for residual, error in zip(residuals, errors, strict=True):
        assert residual / 30 < error < 30 * residual


def test_tolerance_holds_in_both_directions():
    parallel, serial, x = long_memory(solver=sb.MGRIT(coarsening=8, tolerance=1e-5))
    output, _ = parallel(x)
    output.sum().backward()
    assert parallel.last_solve.forward_residual <= 1e-5
    assert parallel.last_solve.backward_residual <= 1e-5
    assert 1 <= parallel.last_solve.forward[0].iterations < 20
    assert relative_error(output, serial(x)[0]) < 1e-4


def diverging(on_divergence, forward_iterations=4):
    """A setting known to diverge: the explicit coarse step of the fine step's length, with long memory."""
    solver = sb.MGRIT(
        coarsening=16,
        coarse="classic",
        coarse_step="unit",
        forward_iterations=forward_iterations,
        backward_iterations=4,
        on_divergence=on_divergence,
    )
    return long_memory(T=512, B=4, H=32, bias=4.0, solver=solver)


def test_divergence_is_an_error_by_default():
    parallel, _, x = diverging("raise")
    with pytest.raises(
        sb.SolverDivergedError, match=r"forward solve diverged, relative residuals .*coarse='classic'"
    ):
        parallel(x)


def test_divergence_can_be_a_warning():
    parallel, _, x = diverging("warn")
    with pytest.warns(sb.SolverDivergedWarning, match="forward solve diverged"):
        parallel(x)
    assert not parallel.last_solve.forward[0].solved_serially


def test_divergence_can_fall_back_to_the_serial_solve():
    parallel, serial, x = diverging("serial")
    with pytest.warns(sb.SolverDivergedWarning, match="solved again in sequence"):
        output, _ = parallel(x)
    output.square().sum().backward()
    truth, _ = serial(x)
    truth.square().sum().backward()
    assert parallel.last_solve.forward[0].solved_serially
    assert torch.equal(output, truth)
    for one, other in zip(parallel.parameters(), serial.parameters(), strict=True):
        assert relative_error(one.grad, other.grad) < 1e-6


def test_a_diverging_adjoint_falls_back_alone():
    # Sixteen FCF iterations make all 32 points exact, whatever happened on the way; four do not.
    parallel, serial, x = diverging("serial", forward_iterations=16)
    output, _ = parallel(x)
    with pytest.warns(sb.SolverDivergedWarning, match="backward solve diverged"):
        output.square().sum().backward()
    serial(x)[0].square().sum().backward()
    assert not parallel.last_solve.forward[0].solved_serially
    assert parallel.last_solve.backward[0].solved_serially
    for one, other in zip(parallel.parameters(), serial.parameters(), strict=True):
        assert relative_error(one.grad, other.grad) < 1e-4


def test_the_report_counts_work_layer_by_layer():
    module = make(sb.MGRIT(coarsening=4), 2, bidirectional=True)
    x, h0 = data(21, layers=4)
    output, h_n = module(x, h0)
    assert module.last_solve.backward == []
    (output.sum() + h_n.sum()).backward()
    forward, backward = module.last_solve.forward, module.last_solve.backward
    assert [(each.layer, each.reverse) for each in forward] == [(0, False), (0, True), (1, False), (1, True)]
    assert sorted((each.layer, each.reverse) for each in backward) == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    for report in forward:
        assert (report.fine_sweeps, report.coarse_sequences, report.coarse_batches) == (3, 2, 1)
        assert len(report.convergence_factors) == report.iterations == 1
        assert report.convergence_factors[0] == report.residuals[1] / report.residuals[0]
        assert 0 <= report.communication_seconds <= report.seconds
        assert 0 < report.coarse_seconds <= report.seconds - report.communication_seconds
    # A loss on every output costs no sweep more than one on the last.
    assert {report.fine_sweeps for report in backward} == {3}


def test_an_adjoint_of_a_last_state_loss_costs_no_more_than_the_forward_solve():
    module = make(sb.MGRIT(coarsening=4))
    x, h0 = data(21)
    module(x, h0)[1].sum().backward()
    report = module.last_solve.backward[0]
    assert (report.fine_sweeps, report.coarse_sequences, report.coarse_batches) == (3, 2, 1)


def test_the_report_prints_a_line_for_each_solve():
    module = make(sb.MGRIT(coarsening=4), 2)
    x, h0 = data(21, layers=2)
    module(x, h0)[1].sum().backward()
    lines = str(module.last_solve).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "forward  layer 0",
        "forward  layer 1",
        "backward layer 1",
        "backward layer 0",
    ]
    assert f"residuals {module.last_solve.forward[0].residuals[0]:.1e}, " in lines[0]
