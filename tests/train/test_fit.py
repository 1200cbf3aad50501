"""`seqbraid.train.fit`: the training of the command, from Python."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqbraid as sb
from seqbraid.cli.main import main
from seqbraid.data.dataset import open_dataset
from seqbraid.errors import DataError, OptionsError
from seqbraid.runs.record import read_run
from seqbraid.runs.report import report_of_runs
from seqbraid.train import Run, fit

SMALL = {"hidden_size": 4, "batch_size": 5, "learning_rate": 0.01, "dropout": 0.2, "seed": 3}
MGRIT = sb.MGRIT(coarsening=2, forward_iterations=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x_train=random.normal(size=(15, 8, 2)),
        y_train=np.arange(15) % 3,
        x_test=random.normal(size=(6, 8, 2)),
        y_test=np.arange(6) % 3,
    )
    return tmp_path / "data.npz"


def metrics(run: Run) -> list[dict[str, Any]]:
    """Return the metrics, but for what the clock says."""
    return [{name: value for name, value in line.items() if "seconds" not in name} for line in run.metrics]


def require_same_weights(one: Run, other: Run) -> None:
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_it_leaves_what_the_command_leaves(data: Path, tmp_path: Path) -> None:
    words = ["--hidden-size", "4", "--batch-size", "5", "--lr", "0.01", "--dropout", "0.2", "--seed", "3"]
    words += ["--solver", "mgrit", "--coarsening", "2", "--forward-iterations", "2", "--epochs", "2"]
    words += ["--validation-fraction", "0.2", "--pad", "zeros"]
    assert main(["train", str(data), "--output", str(tmp_path / "command"), *words]) == 0
    options = {**SMALL, "solver": MGRIT, "epochs": 2, "validation_fraction": 0.2, "pad": "zeros"}
    run = fit(data, options, output=tmp_path / "python")
    of_command = sb.load_run(tmp_path / "command")
    assert metrics(run) == metrics(of_command)
    assert run.options == of_command.options
    require_same_weights(run, of_command)
    names = {path.name for path in of_command.folder.iterdir()}
    assert {path.name for path in run.folder.iterdir()} == names
    configs = [(each.folder / "config.toml").read_text() for each in (run, of_command)]
    assert configs[0].replace("python", "command") == configs[1]


def test_a_run_goes_on_with_its_own_options_and_data(data: Path, tmp_path: Path) -> None:
    whole = fit(data, {**SMALL, "solver": MGRIT, "epochs": 3}, output=tmp_path / "whole")
    part = fit(data, {**SMALL, "solver": MGRIT, "epochs": 1}, output=tmp_path / "part")
    assert len(part.metrics) == 1
    part = fit(options={"epochs": 3}, output=tmp_path / "part", resume=True)
    assert metrics(part) == metrics(whole)
    require_same_weights(part, whole)
    with pytest.raises(OptionsError, match="begun with `hidden_size=4`, which it cannot change to 5"):
        fit(options={"hidden_size": 5}, output=tmp_path / "part", resume=True)
    with pytest.raises(OptionsError, match="has 3 epochs done, more than `epochs=2`"):
        fit(options={"epochs": 2}, output=tmp_path / "part", resume=True)
    with pytest.raises(OptionsError, match=r"holds a run already; .* say `resume` to go on"):
        fit(data, output=tmp_path / "part")


def test_a_run_that_was_parallel_goes_on_in_sequence(data: Path, tmp_path: Path) -> None:
    fit(data, {**SMALL, "solver": MGRIT, "epochs": 1}, output=tmp_path / "run")
    run = fit(options={"epochs": 2, "solver": "serial"}, output=tmp_path / "run", resume=True)
    assert [line["solver"] for line in run.metrics] == ["mgrit", "serial"]
    assert run.solver == sb.Serial()


def test_with_resume_a_run_that_is_not_there_begins(data: Path, tmp_path: Path) -> None:
    assert len(fit(data, {**SMALL, "epochs": 1}, output=tmp_path / "run", resume=True).metrics) == 1
    with pytest.raises(OptionsError, match="holds no run to go on with; give `data` to begin one there"):
        fit(output=tmp_path / "other", resume=True)


def test_a_data_set_that_is_open_is_trained_on(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    run = fit(dataset, {**SMALL, "epochs": 1}, output=tmp_path / "run")
    of_path = fit(data, {**SMALL, "epochs": 1}, output=tmp_path / "of_path")
    assert metrics(run) == metrics(of_path)
    assert run.options["data"] is None
    assert "The runs had different data:\n  unknown: run" in report_of_runs(
        [read_run(each.folder) for each in (run, of_path)]
    )
    with pytest.raises(OptionsError, match="was begun on data in memory; give them again as `data`"):
        fit(options={"epochs": 2}, output=run.folder, resume=True)
    run = fit(dataset, {"epochs": 2}, output=run.folder, resume=True)
    assert len(run.metrics) == 2
    with pytest.raises(OptionsError, match="`split` is for a path"):
        fit(dataset, {"split": "2"}, output=tmp_path / "third")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_sizes": 4}, "'hidden_sizes' is no option of a training; did you mean hidden_size?"),
        ({"output": "run"}, "'output' is no option of a training"),
        ({"epochs": 0}, "epochs is 0; expected a whole number from 1"),
        ({"lr": 0.1}, "'lr' is no option of a training; did you mean learning_rate?"),
        ({"keep": None}, "keep is None; expected a whole number from 1"),
        ({"pad": None}, "pad is None; expected one of lengths"),
        ({"checkpoint_minutes": None}, "checkpoint_minutes is None; expected a number from 0"),
        ({"momentum": 0.5}, "`momentum` is for `optimizer=sgd`; add that, or leave it out"),
        ({"coarsening": 4}, "`coarsening` is for `solver=mgrit`"),
        ({"solver": MGRIT, "coarsening": 4}, "coarsening is given beside `solver`"),
        ({"data_ranks": 2}, "`sequence_ranks` and `data_ranks`: data=2 does not divide the 1 ranks"),
        ({"lr_scaling": "linear"}, "`batch_size=100` is more than the 15 training sequences"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_their_names(
    options: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionsError) as caught:
        fit(data, options, output=tmp_path / "run")
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_it_has_to_say_is_logged(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "seqbraid")
    fit(data, {**SMALL, "epochs": 1, "solver": "mgrit", "coarsening": 8}, output=tmp_path / "run")
    said = "\n".join(caplog.messages)
    assert "15 training and 6 test sequences of up to 8 steps, 2 features, 3 classes" in said
    assert "a smaller `coarsening` changes that" in said
    assert "epoch 1/1  loss" in said
    assert "test accuracy" in caplog.messages[-1]


def test_a_signal_stops_it_and_the_run_goes_on_as_if_undisturbed(data: Path, tmp_path: Path) -> None:
    whole = fit(data, {**SMALL, "epochs": 3}, output=tmp_path / "whole")

    class StopAfterOneEpoch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("epoch 1/"):
                os.kill(os.getpid(), signal.SIGTERM)

    logger, handler = logging.getLogger("seqbraid"), StopAfterOneEpoch()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        run = fit(data, {**SMALL, "epochs": 3}, output=tmp_path / "run")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert run.stopped_by == "SIGTERM"
    assert len(run.metrics) == 1
    run = fit(output=run.folder, resume=True)
    assert run.stopped_by is None
    assert metrics(run) == metrics(whole)
    require_same_weights(run, whole)


def test_what_is_no_data_and_no_solver_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="data is a ndarray; expected a path"):
        fit(np.zeros((2, 3, 4)), SMALL, output=tmp_path / "run")  # type: ignore[arg-type]
    run = fit(data, {**SMALL, "epochs": 1}, output=tmp_path / "run")
    with pytest.raises(TypeError, match=r"solver is a str; expected seqbraid\.Serial"):
        run.evaluate(data, solver="serial")  # type: ignore[arg-type]


@pytest.mark.on_ranks(2)
def test_ranks_fit_and_evaluate_together(data: Path, tmp_path: Path, world: Any) -> None:
    options = {**SMALL, "epochs": 2, "solver": MGRIT, "data_ranks": 1}
    with pytest.raises(OptionsError, match="one of 2 ranks, each of which would train alone"):
        fit(data, options, output=tmp_path / "run")
    with pytest.raises(OptionsError, match="`hidden_size` is 5 on rank 1 and 4 on rank 0"):
        fit(data, {**options, "hidden_size": 4 + world.rank}, output=tmp_path / "run", comm=world)
    run = fit(data, options, output=tmp_path / "run", comm=world)
    assert run.options["ranks"] == 2
    assert run.evaluate(data, comm=world).loss == pytest.approx(run.metrics[-1]["test_loss"], rel=1e-6)
    # The result of one rank alone, to the rounding of sums in another order.
    prediction = run.predict(np.load(data)["x_test"][0])
    assert prediction.probabilities.sum() == pytest.approx(1.0)
    with pytest.raises(DataError, match="does not exist"):
        fit(tmp_path / "absent", options, output=tmp_path / "other", comm=world)


def test_ranks_leave_the_metrics_of_one(data: Path, tmp_path: Path, run_main: Any) -> None:
    words = ["--hidden-size", "4", "--batch-size", "5", "--lr", "0.01", "--dropout", "0.2", "--seed", "3"]
    done = run_main(2, "train", str(data), "--output", str(tmp_path / "ranks"), "--epochs", "2", *words)
    assert done.returncode == 0, done.stderr
    alone = fit(data, {**SMALL, "epochs": 2}, output=tmp_path / "alone")
    lines = [json.loads(line) for line in (tmp_path / "ranks" / "metrics.jsonl").read_text().splitlines()]
    assert [line["test_loss"] for line in lines] == pytest.approx(
        [line["test_loss"] for line in alone.metrics], rel=1e-5
    )
