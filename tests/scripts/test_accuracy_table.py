from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from script_modules import load_script

from seqbraid.cli.main import main as seqbraid

table = load_script("accuracy_table")
train_torch_gru = load_script("train_torch_gru")

SEQUENCES = 2000


class Trainings:
    """Takes the place of the commands: notes them, and leaves the files that they would leave.

    A run's accuracy is 0.9 and a little for its seed; `offsets` adds to those of a cell, solver and split.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.offsets: dict[tuple[str, str, str], float] = {}

    def __call__(self, words: list[str], captured: bool = False) -> str:
        self.commands.append(words)
        if "evaluate" in words:
            folder = Path(words[words.index("evaluate") + 1])
            kept = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
            accuracy = kept["test_accuracy"] + 1 / SEQUENCES
            return (
                f"test: accuracy {accuracy:.4f}  loss 0.3000  {SEQUENCES} sequences  1.0 s  residual 1e-3\n"
            )
        option = dict(pairwise(words))
        cell, solver = option.get("--cell", "classic"), option.get("--solver", "torch")
        offset = self.offsets.get((cell, solver, option.get("--split", "")), 0.0)
        accuracy = 0.9 + int(option["--seed"]) ** 2 / 1000 + offset
        metrics = {"train_loss": 0.1, "train_seconds": 2.0, "test_seconds": 1.0, "test_accuracy": accuracy}
        metrics |= {"forward_residual": 1e-3, "backward_residual": 1e-3}
        lines = [json.dumps({"epoch": epoch, **metrics}) + "\n" for epoch in range(1, 3)]
        target = (
            Path(option["--output"]) / "metrics.jsonl" if "--output" in option else Path(option["--json"])
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(lines))
        return ""


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    commands = Trainings()
    monkeypatch.setattr(table, "execute", commands)
    return commands


@pytest.fixture
def make_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that makes the table of two epochs in `tmp_path / "out"`."""

    def make(*more: str) -> None:
        words = ["accuracy_table.py", "data.npz", str(tmp_path / "out"), "--epochs", "2", *more]
        monkeypatch.setattr(sys, "argv", words)
        table.main()

    return make


def figures(out: Path, setting: str = "mgrit-4-ranks-coarsening-4") -> list[dict[str, object]]:
    runs: list[dict[str, object]] = json.loads((out / f"{setting}.json").read_text())["runs"]
    return runs


def test_the_first_seed_is_whole_before_the_next_begins(
    trainings: Trainings, make_table: Callable[..., None]
) -> None:
    make_table("--seeds", "3", "5", "--splits", "1", "2")
    seeds = [words[words.index("--seed") + 1] for words in trainings.commands if "--seed" in words]
    assert seeds == ["3"] * 10 + ["5"] * 10


def test_mean_and_deviation_are_those_of_the_seeds(
    trainings: Trainings, make_table: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.offsets["implicit", "mgrit", ""] = 0.004
    make_table("--seeds", "0", "1", "4")
    row = next(line for line in capsys.readouterr().out.splitlines() if "implicit, MGRIT" in line)
    accuracies = [0.904, 0.905, 0.92]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert [float(cell) for cell in cells] == pytest.approx(
        [*accuracies, np.mean(accuracies), np.std(accuracies, ddof=1), 0.004, 3.0], abs=5e-5
    )


def test_over_all_splits_a_seed_counts_with_the_mean_of_its_splits(
    trainings: Trainings, make_table: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.offsets["classic", "torch", "2"] = 0.03
    make_table("--seeds", "0", "1", "--splits", "1", "2", "3")
    rows = [line for line in capsys.readouterr().out.splitlines() if "torch.nn.GRU" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| split 1", "| split 2", "| split 3", "| all"]
    assert [float(cell) for cell in rows[1].split(" | ")[2:5]] == [0.93, 0.931, 0.9305]
    assert [float(cell) for cell in rows[3].split(" | ")[2:5]] == [0.91, 0.911, 0.9105]


def test_nothing_that_is_there_runs_again(
    trainings: Trainings, make_table: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    make_table("--seeds", "0")
    first = capsys.readouterr().out
    assert len(trainings.commands) == 9  # five trainings, and four with the other solver
    make_table("--seeds", "0")
    assert len(trainings.commands) == 9
    assert capsys.readouterr().out == first


def test_a_run_that_lacks_an_epoch_is_done_again_with_its_measurement(
    trainings: Trainings, make_table: Callable[..., None], tmp_path: Path
) -> None:
    make_table("--seeds", "0", "1")
    run = tmp_path / "out" / "seed-1" / "implicit-serial"
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    del trainings.commands[:]
    make_table("--seeds", "0", "1")
    train, evaluate = trainings.commands
    assert train[train.index("--output") + 1] == str(run)
    assert evaluate[evaluate.index("evaluate") + 1] == str(run)


def test_another_setting_shares_the_serial_runs(
    trainings: Trainings, make_table: Callable[..., None], tmp_path: Path
) -> None:
    make_table("--seeds", "0")
    del trainings.commands[:]
    make_table("--seeds", "0", "--mgrit", "--coarsening 2 --tolerance 1e-4", "--ranks", "2")
    assert sum("train" in words for words in trainings.commands) == 2
    for words in trainings.commands:
        serial = words[words.index("--solver") + 1] == "serial"
        given = ["--solver", "mgrit", "--coarsening", "2", "--tolerance", "1e-4"]
        assert serial or words[:4] == ["seqbraid", "launch", "-n", "2"]
        assert serial or words[-6:] == given
    out = tmp_path / "out"
    assert len(figures(out)) == len(figures(out, "mgrit-2-ranks-coarsening-2-tolerance-1e-4")) == 5


def test_the_weights_of_each_solver_are_measured_with_the_other(
    trainings: Trainings, make_table: Callable[..., None], tmp_path: Path
) -> None:
    make_table("--seeds", "2")
    for words in trainings.commands:
        if "evaluate" in words:
            serially_trained = words[words.index("evaluate") + 1].endswith("-serial")
            assert words[words.index("--solver") + 1] == ("mgrit" if serially_trained else "serial")
    inference = {(run["cell"], run["solver"]): run["inference"] for run in figures(tmp_path / "out")}
    assert inference["classic", "torch"] == {"torch": 0.904}
    assert inference["classic", "serial"] == {"serial": 0.904, "mgrit": 0.9045}
    assert inference["implicit", "mgrit"] == {"mgrit": 0.904, "serial": 0.9045}


def test_a_mean_too_far_from_its_twin_ends_with_its_name(
    trainings: Trainings, make_table: Callable[..., None]
) -> None:
    trainings.offsets["implicit", "mgrit", "2"] = -0.012
    with pytest.raises(SystemExit) as ended:
        make_table("--seeds", "0", "1", "--splits", "1", "2")
    lines = str(ended.value.code).splitlines()
    assert lines[0] == "accuracy_table: farther apart than 0.01:"
    assert all(line.startswith("split 2, implicit cell: ") for line in lines[1:])
    twin = "0.9005 trained serially and measured serially, 0.8885 trained with MGRIT and measured with MGRIT"
    assert lines[1].endswith(twin)
    make_table("--seeds", "0", "1", "--splits", "1", "2", "--within", "0.02")


def test_other_training_options_need_another_folder(
    trainings: Trainings, make_table: Callable[..., None]
) -> None:
    make_table("--seeds", "0")
    with pytest.raises(SystemExit, match="holds runs with hidden_size 100, not 64; choose another folder"):
        make_table("--seeds", "0", "--hidden-size", "64")


def test_a_wrong_option_of_mgrit_is_told_before_anything_runs(
    trainings: Trainings, make_table: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        make_table("--mgrit", "--coarsening 0")
    assert "accuracy_table.py --mgrit: error: argument --coarsening" in capsys.readouterr().err
    assert trainings.commands == []


@pytest.mark.parametrize(("correct", "sequences"), [(2739, 2996), (123, 176), (0, 7), (2, 3)])
def test_the_printed_accuracy_gives_back_whole_sequences(correct: int, sequences: int) -> None:
    line = (
        f"test: accuracy {correct / sequences:.4f}  loss 0.31  {sequences} sequences  1.0 s  residual 0e+00"
    )
    assert table.accuracy_of(line) == correct / sequences


def test_torch_gru_writes_the_metrics_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    parts = {"x_train": (20, 6, 2), "x_test": (10, 6, 2)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in parts.items()}
    np.savez(tmp_path / "data.npz", **arrays, y_train=np.arange(20) % 2, y_test=np.arange(10) % 2)
    words = [str(tmp_path / "data.npz"), "--hidden-size", "4", "--epochs", "3", "--batch-size", "8"]
    monkeypatch.setattr(sys, "argv", ["train_torch_gru.py", *words, "--json", str(tmp_path / "torch.jsonl")])
    train_torch_gru.main()
    assert capsys.readouterr().out.count("epoch ") == 3
    assert seqbraid(["train", *words, "--output", str(tmp_path / "run")]) == 0
    of_torch, of_seqbraid = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "torch.jsonl", tmp_path / "run" / "metrics.jsonl")
    )
    assert len(of_torch) == 3
    for one, other in zip(of_torch, of_seqbraid, strict=True):
        assert one.keys() <= other.keys()
        for name in ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert one[name] == pytest.approx(other[name], abs=1e-5), name
    run = table.read_run(tmp_path / "run", "classic", "serial", None, 0, {})
    assert run.seconds == statistics.median(e["train_seconds"] + e["test_seconds"] for e in of_seqbraid)
