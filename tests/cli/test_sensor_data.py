"""The same sequences as an .npz file, as a folder of .npy files and as a feature store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uci_har_layout import ACTIVITIES, random_windows, write_uci_har

from preprocess.sequences import store_sequences
from seqbraid.cli.main import main
from seqbraid.comm import SingleProcess

TRAIN, TEST = random_windows(24, seed=1), random_windows(9, seed=2)
ARRAYS = {
    "x_train": TRAIN.x,
    "y_train": TRAIN.y,
    "x_test": TEST.x,
    "y_test": TEST.y,
    "label": np.array(ACTIVITIES),
}


def as_file(folder: Path) -> Path:
    np.savez(folder / "data.npz", **ARRAYS)
    return folder / "data.npz"


def as_folder(folder: Path) -> Path:
    (folder / "arrays").mkdir()
    for name, values in ARRAYS.items():
        np.save(folder / "arrays" / f"{name}.npy", values)
    return folder / "arrays"


def as_store_of_arrays(folder: Path) -> Path:
    return store_sequences(as_file(folder), folder / "store", SingleProcess()).folder


def as_store_of_uci_har(folder: Path) -> Path:
    return store_sequences(write_uci_har(folder, TRAIN, TEST), folder / "har", SingleProcess()).folder


FORMS = (as_file, as_folder, as_store_of_arrays, as_store_of_uci_har)


def train(data: Path, run: Path) -> list[dict[str, Any]]:
    """Train for two epochs and return the metrics but the times."""
    options = ("--epochs", "2", "--batch-size", "10", "--hidden-size", "4", "--num-layers", "2")
    assert main(["train", str(data), "--output", str(run), *options]) == 0
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if not name.endswith("seconds")}
        for line in lines
    ]


def test_every_form_trains_to_the_same_numbers(tmp_path: Path) -> None:
    metrics = []
    for form in FORMS:
        (tmp_path / form.__name__).mkdir()
        metrics.append(train(form(tmp_path / form.__name__), tmp_path / form.__name__ / "run"))
    assert len(metrics[0]) == 2
    assert metrics[0][0]["train_loss"] > 0
    assert metrics[1:] == metrics[:1] * 3


@pytest.mark.parametrize("trained_on", FORMS)
def test_a_run_measures_and_names_every_form(
    trained_on: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trained").mkdir()
    run = tmp_path / "trained" / "run"
    metrics = train(trained_on(tmp_path / "trained"), run)
    for form in FORMS:
        (tmp_path / form.__name__).mkdir()
        data = form(tmp_path / form.__name__)
        capsys.readouterr()
        assert main(["evaluate", str(run), str(data)]) == 0
        assert f"test: accuracy {metrics[-1]['test_accuracy']:.4f}" in capsys.readouterr().out
    np.save(tmp_path / "recording.npy", TEST.x[0])
    assert main(["predict", str(run), str(tmp_path / "recording.npy"), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("recording.npy (128 steps)")
    assert len(lines) == 3
    assert all(line.split()[-1] in ACTIVITIES for line in lines[1:])


def test_channels_in_another_order_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, data = tmp_path / "run", as_store_of_uci_har(tmp_path)
    train(data, run)
    options = json.loads((run / "options.json").read_text())
    options["features"]["channels"].reverse()
    (run / "options.json").write_text(json.dumps(options))
    capsys.readouterr()
    assert main(["evaluate", str(run), str(data)]) == 2
    assert "made with channels ['body_acc_x'," in capsys.readouterr().err


def test_info_tells_of_stores_and_runs_of_sensor_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, run = as_store_of_uci_har(tmp_path), tmp_path / "run"
    train(store, run)
    capsys.readouterr()
    for path in (store, run):
        assert main(["info", str(path)]) == 0
        shown = capsys.readouterr().out
        assert "UCI HAR" in shown
        assert "body_acc_x" in shown
        assert "WALKING, WALKING_UPSTAIRS" in shown
    assert main(["info", str(as_folder(tmp_path))]) == 0
    assert "24 train, 9 test" in capsys.readouterr().out
