"""The verification ladder, from one level to training: each step rests on the one before. In float64."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import relative_error

import seqbraid as sb
from seqbraid.comm import SingleProcess
from seqbraid.data.dataset import open_dataset
from seqbraid.data.standardisation import Standardisation
from seqbraid.train import (
    ModelOptions,
    SequenceClassifier,
    TimeSlice,
    Trainer,
    TrainingData,
    TrainingOptions,
)
from seqbraid.verify import Case, solve, verify

ALONE = SingleProcess()
SMALL = Case(T=61, B=3, I=4, H=6, gate_bias=2.0, loss="every")


def on_simulated_ranks(case, solver, ranks):
    """Return rank 0's whole results; every rank's must be the same bits."""
    results = sb.SimulatedWorld(ranks).run(lambda comm: solve(case, solver, comm)[0])
    for other, name in itertools.product(results[1:], results[0]):
        assert torch.equal(other[name], results[0][name]), name
    return results[0]


def worst(found, truth):
    return max(relative_error(found[name], truth[name]) for name in truth)


@pytest.mark.parametrize("cell", ["classic", "implicit"])
def test_one_level_is_the_serial_solution(cell):
    case = replace(SMALL, cell=cell)
    serial, _ = solve(case, sb.Serial(), ALONE)
    one_level = sb.MGRIT(coarsening=4, levels=1)
    found, _ = solve(case, one_level, ALONE)
    assert all(torch.equal(found[name], serial[name]) for name in serial)
    assert worst(on_simulated_ranks(case, one_level, 2), serial) < 1e-13


@pytest.mark.parametrize("relaxation", ["F", "FCF"])
@pytest.mark.parametrize("cell", ["classic", "implicit"])
def test_the_serial_solution_is_a_fixed_point(cell, relaxation):
    # 16 intervals: so many iterations reach the serial solution exactly, and three more must stay there.
    exact = 16 if relaxation == "F" else 8
    solver = sb.MGRIT(
        coarsening=4, relaxation=relaxation, forward_iterations=exact + 3, backward_iterations=exact + 3
    )
    _, gru = solve(replace(SMALL, cell=cell), solver, ALONE)
    for report in (gru.last_solve.forward[0], gru.last_solve.backward[0]):
        assert max(report.residuals[exact:]) < 1e-15


@pytest.mark.parametrize("relaxation", ["F", "FCF"])
@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_iterations_are_exact_so_far_from_either_end(iterations, relaxation):
    c = 4
    exact = 1 + iterations * (2 if relaxation == "FCF" else 1)
    serial, _ = solve(SMALL, sb.Serial(), ALONE)
    few = sb.MGRIT(coarsening=c, relaxation=relaxation, forward_iterations=iterations, backward_iterations=16)
    found, _ = solve(SMALL, few, ALONE)
    # C_0 ... C_{exact - 1} are exact, so are all states of the intervals that they begin.
    error = (found["states"] - serial["states"]).abs().flatten(1).amax(dim=1)
    assert error[: c * exact].max() < 1e-13
    assert error[c * (exact + 1) :].max() > 1e-9
    # The adjoint about exact states, from the other end; the last interval is short: 61 = 15 * 4 + 1.
    few = replace(few, forward_iterations=16, backward_iterations=iterations)
    found, _ = solve(SMALL, few, ALONE)
    error = (found["x"] - serial["x"]).abs().flatten(1).amax(dim=1)
    start = 60 - c * (exact - 1)
    assert error[start:].max() < 1e-13
    assert error[: start - c].max() > 1e-9


@pytest.mark.parametrize("ranks", [2, 3, 4, 7, 16, 20])
def test_iterates_do_not_depend_on_the_ranks(ranks):
    for solver in (
        sb.MGRIT(coarsening=4),
        sb.MGRIT(coarsening=4, relaxation="F", coarse="implicit", coarse_input="point", forward_iterations=2),
        sb.MGRIT(coarsening=2, levels=3, forward_iterations=2),
        sb.Serial(),
    ):
        found = on_simulated_ranks(SMALL, solver, ranks)
        assert worst(found, solve(SMALL, solver, ALONE)[0]) < 1e-12


FIRST = Case(T=128, B=100, I=9, H=100, gate_bias=0.0)
SECOND = Case(T=1024, B=8, I=9, H=64, gate_bias=4.0)
FROZEN = sb.MGRIT()
IMPLICIT = sb.MGRIT(coarse="implicit", coarse_input="point")


@pytest.mark.parametrize(
    ("case", "coarsening", "solver", "bounds"),
    [
        (FIRST, 4, FROZEN, (2e-2, 6e-4, 3e-5)),
        (FIRST, 4, IMPLICIT, (6e-2, 6e-3, 6e-4)),
        (SECOND, 16, FROZEN, (2e-2, 1e-3, 8e-5)),
    ],
)
def test_errors_after_few_iterations(case, coarsening, solver, bounds):
    truth, _ = solve(case, sb.Serial(), ALONE)
    points = slice(coarsening - 1, None, coarsening)
    for iterations, bound in enumerate(bounds, start=1):
        few = replace(solver, coarsening=coarsening, forward_iterations=iterations, backward_iterations=0)
        found, _ = solve(case, few, ALONE)
        assert relative_error(found["states"][points], truth["states"][points]) < bound


@pytest.mark.parametrize("loss", ["last", "every"])
@pytest.mark.parametrize(("case", "coarsening"), [(FIRST, 4), (SECOND, 16)])
def test_weight_gradients_after_few_iterations(case, coarsening, loss):
    case = replace(case, loss=loss)
    one, two = verify(case, [replace(FROZEN, coarsening=coarsening)], (1, 2), lambda run: run(ALONE))[0]
    weights = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert max(one.of[name] for name in weights) < 2e-2
    assert max(two.of[name] for name in weights) < 1e-3
    assert not one.diverged
    assert not two.diverged


def test_the_explicit_unit_step_diverges_where_memory_is_long():
    solver = sb.MGRIT(coarsening=16, coarse="classic", coarse_step="unit", forward_iterations=3)
    with pytest.raises(sb.SolverDivergedError, match="coarse_step='unit'"):
        solve(SECOND, solver, ALONE)


def test_training_follows_the_serial_run():
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("SEQBRAID_TEST_DATA", default)) / "har_from_hapt.npz"
    if not path.is_file():
        pytest.skip(f"no test data at {path} (set SEQBRAID_TEST_DATA)")
    data = open_dataset(path)
    rows = np.random.default_rng(0).permutation(len(data.train))[:800]
    part = replace(
        data.train,
        labels=data.train.labels[rows],
        lengths=data.train.lengths[rows],
        load=lambda indices, start, stop: data.train.load(rows[indices], start, stop),
    )
    held = TimeSlice(0, data.steps, data.steps)
    standardise = Standardisation.fit(part, 0, data.steps, data.feature_size, ALONE)
    losses = []
    for solver in (sb.Serial(), sb.MGRIT(coarsening=4)):
        torch.manual_seed(0)
        options = ModelOptions(data.feature_size, len(data.class_names), hidden_size=32)
        model = SequenceClassifier(options, solver)
        training = TrainingOptions(epochs=3, batch_size=50, learning_rate=3e-3)
        trainer = Trainer(model, TrainingData(part, part, held, standardise), training)
        trainer.run(lambda metrics, test: None)
        losses.append([metrics["train_loss"] for metrics in trainer.history])
    assert losses[0][2] < losses[0][0] / 1.5
    for serial, parallel in zip(*losses, strict=True):
        assert abs(parallel - serial) < 0.02 * serial
