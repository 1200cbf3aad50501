"""`seqbraid plot RUN`: what of a run is drawn, and that it can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from run_folders import (
    make_run,
    metrics_of_run,
)

from seqbraid.cli.main import main

RESIDUAL = "largest residual of an epoch"
CONFUSION = "confusion matrix after epoch"


def test_a_real_run_is_drawn_into_its_folder(
    run_copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = run_copy
    before = {path.name for path in folder.iterdir()}
    assert main(["plot", str(folder)]) == 0
    said = capsys.readouterr()
    [entry] = [json.loads(each) for each in (folder / "metrics.jsonl").read_text().splitlines()]
    accuracy = f"{entry['test_accuracy']:.4f}"
    assert said.err == ""
    assert said.out.splitlines() == [
        f"{folder}: 1 epoch, test accuracy {accuracy} (best {accuracy}, epoch 1)",
        "classic cell, serial, 1 rank x 1 thread",
        f"{folder / 'run.png'} written",
    ]
    assert {path.name for path in folder.iterdir()} == before | {"run.png"}
    assert np.ptp(plt.imread(folder / "run.png")) > 0.9


@pytest.mark.parametrize(
    "words",
    [
        ["run", "data", "--output", "x.pdf"],
        ["./data", "--output", "x.pdf"],
        ["run", "--output", "x.pdf"],
        ["run", "--output=x.pdf"],
        ["run", "run", "--output", "x.pdf"],
        ["run", "--output", "x.pdf", "data"],
    ],
    ids=" ".join,
)
def test_a_run_that_is_called_like_a_kind_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    make_run(tmp_path / "data")
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *words]) == 0
    assert Path("x.pdf").read_bytes().startswith(b"%PDF")


def test_a_folder_called_run_needs_no_other_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "run"]) == 0
    assert Path("run/run.png").exists()


def test_the_help_shows_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plot", "--help"])
    text = capsys.readouterr().out
    for words in ("seqbraid plot run/", "seqbraid plot data features/", "seqbraid plot run data"):
        assert words in text
    with pytest.raises(SystemExit):
        main(["plot", "somewhere", "--help"])
    assert capsys.readouterr().out.startswith("usage: seqbraid plot run [-h] [--output FILE] RUN")


def refuse(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the line that `seqbraid plot` says instead of drawing."""
    assert main(["plot", *map(str, words)]) == 2
    said = capsys.readouterr()
    [text] = said.err.splitlines()
    assert text.startswith("seqbraid plot: error: ")
    assert said.out == ""
    return text


def test_what_is_no_run_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    folder = make_run(tmp_path / "run", metrics=[])
    assert "empty is not a run folder" in refuse(capsys, tmp_path / "empty")
    assert "nowhere is not a run folder" in refuse(capsys, tmp_path / "nowhere")
    assert "no epoch to draw yet" in refuse(capsys, folder)
    assert "there is no folder" in refuse(capsys, folder, "--output", tmp_path / "nowhere" / "x.png")
    assert "expected a name that ends in" in refuse(capsys, folder, "--output", tmp_path / "x.avi")
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ([], "it holds a list"),
        ({"inference": []}, "inference is no object of objects"),
        ({"inference": {"mgrit": 1}}, "inference is no object of objects"),
        *(
            ({"inference": {"mgrit": {"confusion": confusion}}}, "confusion is no table of 2 x 2 counts")
            for confusion in ([[1, 2]], [[1, 2], [3]], [[1, 2], [3, -1]], [[1, 2], [3, 0.5]], "x", None)
        ),
    ],
)
def test_a_damaged_evaluation_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evaluation: Any, message: str
) -> None:
    folder = make_run(tmp_path / "run", classes=2, evaluation=evaluation or [])
    text = refuse(capsys, folder)
    assert f"{folder / 'evaluation.json'} is damaged ({message})" in text


def test_a_metric_that_is_no_number_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = [{**metrics_of_run(1)[0], "test_loss": "low"}]
    folder = make_run(tmp_path / "run", metrics=metrics)
    assert f"{folder / 'metrics.jsonl'} is damaged (test_loss is 'low'" in refuse(capsys, folder)
