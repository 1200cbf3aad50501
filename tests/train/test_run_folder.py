from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from seqbraid.errors import DataError, OptionsError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.options import solver_from_dict, solver_to_dict
from seqbraid.train import RunFolder

OPTIONS: dict[str, Any] = {"features": {}, "class_names": ["a"], "model": {}, "solver": {}, "training": {}}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "deep" / "run")
    folder.create(OPTIONS, overwrite=False)
    assert folder.options() == OPTIONS
    assert folder.metrics() == []
    epochs = [{"epoch": 1, "loss": 0.1}, {"epoch": 2, "loss": 1 / 3}]
    folder.write_metrics(epochs[:1])
    folder.write_metrics(epochs)
    assert folder.metrics() == epochs
    folder.save_weights("best", {"model": {"w": torch.arange(3)}, "epoch": 2})
    loaded = folder.load_weights("best")
    assert loaded["model"]["w"].tolist() == [0, 1, 2]
    assert loaded["epoch"] == 2
    with pytest.raises(DataError, match=r"last\.pt does not exist"):
        folder.load_weights("last")
    names = {path.name for path in folder.folder.iterdir()}
    assert names == {"options.json", "metrics.jsonl", "best.pt"}  # no temporary file is left


def test_overwriting_removes_the_results_of_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(OPTIONS, overwrite=True)
    folder.write_metrics([{"epoch": 1}])
    folder.save_weights("last", {"epoch": 1})
    with pytest.raises(OptionsError, match="holds a run already"):
        folder.create(OPTIONS, overwrite=False)
    assert folder.metrics() == [{"epoch": 1}]
    folder.create({**OPTIONS, "class_names": ["b"]}, overwrite=True)
    assert folder.options()["class_names"] == ["b"]
    assert {path.name for path in folder.folder.iterdir()} == {"options.json"}


@pytest.mark.parametrize("name", ["checkpoints/mine", "tensorboard/mine", "config.toml", "best.pt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_neither_deleted_nor_overwritten(
    name: str, overwrite: bool, tmp_path: Path
) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(OptionsError, match=f"is no run folder but holds {name.partition('/')[0]}"):
        RunFolder(tmp_path).create(OPTIONS, overwrite)
    assert mine.read_text() == "mine"
    assert not (tmp_path / "options.json").exists()


def test_a_write_cut_off_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.save_weights("last", {"epoch": 1})
    folder.write_metrics([{"epoch": 1}])

    def refuse(self: Path, target: Path) -> NoReturn:
        raise OSError(errno.EIO, "killed")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="killed"):
        folder.write_metrics([{"epoch": 1}, {"epoch": 2}])
    with pytest.raises(OSError, match="killed"):
        folder.save_weights("last", {"epoch": 2})
    assert folder.metrics() == [{"epoch": 1}]
    assert folder.load_weights("last") == {"epoch": 1}
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "metrics.jsonl"}


def test_a_solver_goes_through_a_file_unchanged() -> None:
    every_field_changed = MGRIT(
        coarsening=5,
        levels=2,  # the only one there is
        forward_iterations=3,
        backward_iterations=4,
        relaxation="F",
        coarse="implicit",
        coarse_step="unit",
        coarse_input="point",
        initial_guess="zero",
        tolerance=1e-5,
        max_iterations=7,
        on_divergence="warn",
    )
    default = dataclasses.asdict(MGRIT())
    changed = dataclasses.asdict(every_field_changed)
    assert {name for name in default if default[name] == changed[name]} <= {"levels", "c_weight", "storage"}
    for solver in (every_field_changed, MGRIT(), Serial()):
        assert solver_from_dict(json.loads(json.dumps(solver_to_dict(solver)))) == solver


@pytest.mark.parametrize(
    "values",
    [{}, {"solver": "magic"}, {"solver": "mgrit", "coarsening": 0}, {"solver": "serial", "coarsening": 2}],
)
def test_values_of_no_solver_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="train again"):
        solver_from_dict(values)
