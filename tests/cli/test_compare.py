"""`seqbraid compare`: what differs between runs, what came of them, and how it is laid out."""

from __future__ import annotations

import csv
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from run_folders import MGRIT, SERIAL, evaluation_of, metrics_of_run, old, options_of_run, write_run

from seqbraid.cli.main import main
from seqbraid.text import WIDTH

CLASSES = [f"class_{label}" for label in range(6)]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that writes a run into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(
        name: str,
        solver: dict[str, Any] = SERIAL,
        epochs: int = 3,
        metrics: list[dict[str, Any]] | None = None,
        evaluation: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        if metrics is None:
            metrics = metrics_of_run(epochs, solver is not SERIAL)
        return write_run(Path(name), options_of_run(CLASSES, solver, epochs, **changes), metrics, evaluation)

    return write


def compare(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return what the command prints, all of which fits the terminal."""
    assert main(["compare", *map(str, words)]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= WIDTH
    return text


def cells(line: str) -> list[str]:
    """Return the cells of a table's line, which are apart by two blanks or more."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def table(text: str, names: int) -> dict[str, list[str]]:
    """Return by name the cells of a table with a column a run."""
    rows = [cells(line) for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) == names + 1}


def test_options_that_differ_and_results_stand_side_by_side(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = metrics_of_run(4, parallel=False)
    for entry, accuracy, seconds in zip(metrics, [0.2, 0.75, 0.5, 0.625], [9, 1, 2, 3], strict=True):
        entry |= {"test_accuracy": accuracy, "train_seconds": seconds, "test_loss": 1.5}
    runs("exact", metrics=metrics, epochs=10, cell="classic")
    nested = metrics_of_run(4, levels=[4, 2])
    nested[-1] |= {
        "forward_residual": 1.2e-2,
        "backward_residual": 2e-3,
        "test_residual": 3e-4,
        "test_accuracy": 0.8,
        "test_top5": 0.95,
    }
    nested[0]["diverged_solves"] = nested[2]["diverged_solves"] = 2
    runs("nested", MGRIT, metrics=nested, evaluation=evaluation_of(4, 6, mgrit=0.8, serial=0.79), epochs=4)
    text = compare(capsys, "exact", "nested")
    assert text.split("\n", 1)[0].split() == ["exact", "nested"]
    options, results = text.split("\n\n")[:2]
    assert table(options, 2) == {
        "cell": ["classic", "implicit"],
        "solver": ["serial", "mgrit c=4 FCF 2+1"],
        "epochs planned": ["10", "4"],
    }
    found = table(results, 2)
    del found["test loss"]
    assert found == {
        "test accuracy, last": ["0.6250", "0.8000"],
        "test accuracy, best": ["0.7500, epoch 2", "0.8000, epoch 4"],
        "test top 5": [f"{metrics[-1]['test_top5']:.4f}", "0.9500"],
        "MGRIT inference": ["-", "0.8000"],
        "serial inference": ["-", "0.7900"],
        "epochs": ["4 of 10", "4"],
        "work": ["4", "2.75"],
        "seconds an epoch": ["2.5", "3"],
        "time: relaxation": ["50%", "50%"],
        "time: coarse solve": ["20%", "20%"],
        "time: communication": ["15%", "15%"],
        "time: data": ["5%", "5%"],
        "time: other": ["10%", "10%"],
        "residual, forward": ["-", "1.2e-02"],
        "residual, backward": ["-", "2.0e-03"],
        "residual, test": ["-", "3.0e-04"],
        "diverged solves": ["0", "4"],
    }


def test_of_solvers_what_the_few_words_do_not_tell_has_a_line_of_its_own(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs("serial")
    runs("a", {**MGRIT, "tolerance": 1e-4, "storage": "c_points", "coarse": "implicit", "levels": 3})
    runs("b", {**MGRIT, "levels": 1})
    assert table(compare(capsys, "serial", "a", "b").split("\n\n")[0], 3) == {
        "solver": ["serial", "mgrit c=4 3 levels FCF implicit to 0.0001", "mgrit, one level"],
        "storage": ["-", "c_points", "states"],
    }


def test_an_older_run_had_the_options_that_it_does_not_name_as_they_are_by_default(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = old(metrics_of_run(2))
    runs("old", {"solver": "mgrit", "coarsening": 4}, metrics=lines, epochs=2)
    options = json.loads(Path("old/options.json").read_text())
    for name in ("data_ranks", "sequence_ranks"):
        del options[name]
    Path("old/options.json").write_text(json.dumps(options))
    defaults = {"coarsening": 4, "forward_iterations": 1, "backward_iterations": 1, "storage": "states"}
    runs("new", {**MGRIT, **defaults}, epochs=2, optimizer="sgd", momentum=0.9, clip_norm=None)
    options_text, results = compare(capsys, "old", "new").split("\n\n")[:2]
    assert table(options_text, 2) == {"optimizer": ["adam", "sgd"]}
    found = table(results, 2)
    assert found["work"] == ["2", "2"]
    assert found["time: data"] == ["-", "5%"]
    assert found["diverged solves"] == ["-", "0"]


def test_many_runs_have_a_line_each(runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"run-with-a-long-name-{number}" for number in range(9)]
    for number, name in enumerate(names):
        metrics = metrics_of_run(1)
        metrics[0] |= {"test_accuracy": number / 10, "test_loss": number + 0.5}
        runs(name, MGRIT, metrics=metrics, learning_rate=10.0**-number, epochs=1)
    parts = [part.splitlines() for part in compare(capsys, *names).rstrip().split("\n\n")]
    for part in parts:
        assert [line.split()[0] for line in part[1:]] == names
    assert [line.split()[1] for line in parts[0][1:]] == [f"{10.0**-number:g}" for number in range(9)]
    columns = [name for part in parts for name in cells(part[0])]
    assert columns[:4] == ["learning rate", "test accuracy, last", "test accuracy, best", "test loss"]
    assert len(columns) == len(set(columns)) == 17
    assert [line.split()[1] for line in parts[1][1:]] == [f"{number / 10:.4f}" for number in range(9)]


@pytest.mark.parametrize("count", [2, 9])
def test_runs_of_the_same_options_are_said_to_be_so(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str], count: int
) -> None:
    names = [f"run-with-a-long-name-{number}" for number in range(count)]
    for name in names:
        runs(name)
    first, *tables = compare(capsys, *names).split("\n\n")
    assert first == "No option differs."
    assert all(name in tables[0] for name in [*names, "test accuracy, last"])


def test_runs_that_differ_in_the_seed_alone_are_summed_up(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = [0.5, 0.75, 0.625, 0.25, 0.125]
    for seed, accuracy in enumerate(accuracies):
        metrics = metrics_of_run(2 + (seed == 1))
        metrics[-1]["test_accuracy"] = accuracy
        # The fourth has another learning rate, the fifth other data.
        changes = {3: {"learning_rate": 0.5}, 4: {"data": "/data/other"}}.get(seed, {})
        runs(f"s{seed}", MGRIT, metrics=metrics, epochs=3, seed=seed, **changes)
    text = compare(capsys, *(f"s{seed}" for seed in range(5)))
    lines = text.split("test accuracy after the last epoch:\n")[1].split("\n\n")[0].splitlines()
    deviation = statistics.stdev(accuracies[:3])
    assert [cells(line) for line in lines] == [
        ["runs that differ in the seed alone", "seeds", "epochs", "mean", "max - min", "deviation"],
        ["s0, s1, s2", "0, 1, 2", "2-3", "0.6250", "0.2500", f"{deviation:.4f}"],
    ]
    assert "seed alone" not in compare(capsys, "s0", "s3", "s4")


def test_which_data_each_run_had_is_said_where_they_differ(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs("a")
    runs("b")
    runs("c", split="2")
    runs("d", data="/elsewhere/features", split=None, split_sha256={})
    runs("e", split_sha256={"clips": "c" * 8, "marks": "abcdef0123"})
    assert "different data" not in compare(capsys, "a", "b")
    assert compare(capsys, "a", "b", "c", "d").rstrip().split("\n\n")[-1].splitlines() == [
        "The runs had different data:",
        "  data/features, split 1: a, b",
        "  data/features, split 2: c",
        "  elsewhere/features: d",
    ]
    assert compare(capsys, "a", "e").rstrip().splitlines()[-2:] == [
        "  features, split 1 (divided otherwise: mmmmmmmm): a",
        "  features, split 1 (divided otherwise: abcdef01): e",
    ]


def test_a_run_without_an_epoch_is_left_out_and_said(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    runs("done")
    runs("begun", metrics=[])
    assert main(["compare", "begun", "done", "done/../done"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == ["seqbraid compare: warning: begun has no epoch yet, and is left out"]
    assert said.out.splitlines()[0].split() == ["done"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["done", "nowhere"], "nowhere is not a run folder"),
        (["begun"], "begun has no epoch to compare yet"),
        (["done", "--against", "work"], "--against work is for --plot"),
        (["done", "--output", "x.png"], "--output x.png: the table is written as CSV"),
        (["done", "--output", "nowhere/x.csv"], "there is no folder nowhere"),
        (["done", "--plot", "x.avi"], "--plot x.avi: expected a name that ends in"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    runs("done")
    runs("begun", metrics=[])
    assert main(["compare", *words]) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("seqbraid compare: error: ")
    assert message in line
    assert said.out == ""


def test_the_csv_file_has_all_options_and_results(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = metrics_of_run(2)
    metrics[1]["forward_residual"] = float("inf")
    runs("a,b", MGRIT, metrics=metrics, evaluation=evaluation_of(2, 6, mgrit=0.75), clip_norm=2.5)
    runs("serial", features={"channels": ["x", "y"]})
    text = compare(capsys, "a,b", "serial", "--output", "x.csv")
    assert text.endswith("\nx.csv written\n")
    with Path("x.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["run"], second["run"]) == ("a,b", "serial")
    for name, value in {
        "data": "/data/features",
        "split": "1",
        "option_solver": "mgrit",
        "option_coarsening": "4",
        "option_clip_norm": "2.5",
        "option_features.backbone": "resnet18",
        "epochs_done": "2.0",
        "work": "2.0",
        "forward_residual": "inf",
        "mgrit_inference_accuracy": "0.75",
    }.items():
        assert first[name] == value
    for name in ("train_loss", "test_accuracy", "test_top5", "backward_residual"):
        assert float(first[name]) == metrics[-1][name]
    assert second["option_coarsening"] == second["mgrit_inference_accuracy"] == ""
    assert json.loads(second["option_features.channels"]) == ["x", "y"]


@pytest.mark.parametrize("against", ["epochs", "work", "seconds"])
def test_curves_of_all_runs_are_drawn(
    runs: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    against: str,
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr("seqbraid.plots.comparison.save_figure", lambda figure, path: figures.append(figure))
    nested, older = metrics_of_run(4, levels=[2, 2]), old(metrics_of_run(3))
    runs("_nested_$a{", MGRIT, metrics=nested)
    runs("older", metrics=older)
    more = () if against == "epochs" else ("--against", against)
    assert compare(capsys, "_nested_$a{", "older", "--plot", "x.png", *more).endswith("x.png written\n")
    [figure] = figures
    expected = {
        "epochs": ([1, 2, 3, 4], [1, 2, 3]),
        "work": ([0.5, 1, 2, 3], [1, 2, 3]),
        "seconds": ([2, 4, 8, 12], [4, 8, 12]),
    }[against]
    for axis, metric in zip(figure.axes, ("test_accuracy", "train_loss"), strict=True):
        for line, x, metrics in zip(axis.lines, expected, (nested, older), strict=True):
            np.testing.assert_allclose(line.get_xdata(), x)
            np.testing.assert_array_equal(line.get_ydata(), [entry[metric] for entry in metrics])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["_nested_$a{", "older"]
    plt.close(figure)


def test_many_runs_are_drawn_with_a_legend_that_covers_nothing(
    runs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr("seqbraid.plots.comparison.save_figure", lambda figure, path: figures.append(figure))
    names = [f"{'a-long-name-' * 4}{number:02}" for number in range(23)]
    for name in names:
        runs(name, epochs=2)
    compare(capsys, *names, "--plot", "x.png")
    [figure] = figures
    figure.canvas.draw()
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert all(axis.get_tightbbox().y0 >= box.y1 for axis in figure.axes)
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 23
    plt.close(figure)


def test_real_runs_are_compared(trained: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    folder, data = trained
    words = ["--hidden-size", "4", "--epochs", "2", "--solver", "mgrit", "--coarsening", "2"]
    assert main(["train", str(data), "--output", str(tmp_path / "parallel"), *words]) == 0
    capsys.readouterr()
    picture = tmp_path / "x.svg"
    text = compare(capsys, folder, tmp_path / "parallel", "--plot", picture)
    found = table(text, 2)
    assert found["solver"] == ["serial", "mgrit c=2 FCF 1+1"]
    assert found["epochs planned"] == found["epochs"] == ["1", "2"]
    lines = [
        (each / "metrics.jsonl").read_text().splitlines()[-1] for each in (folder, tmp_path / "parallel")
    ]
    accuracies = [f"{json.loads(line)['test_accuracy']:.4f}" for line in lines]
    assert found["test accuracy, last"] == accuracies
    assert picture.read_bytes().startswith(b"<?xml")


def test_names_that_are_no_text_can_be_compared(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"caf\xe9")
    runs(name)
    assert compare(capsys, name).splitlines()[0].split() == ["caf?"]
