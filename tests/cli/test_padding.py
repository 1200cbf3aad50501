"""Training, evaluation and prediction of padded sequences, and of one of a store's splits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqbraid.cli.main import main
from seqbraid.data.store import FeatureStore

PADDINGS = ["lengths", "zeros", "repeat-last"]
STEPS, SIZE, CLASSES = 9, 2, 2
MODEL = ["--hidden-size", "4", "--epochs", "2", "--batch-size", "5", "--lr", "0.05", "--threads", "1"]
# Twelve clips, of which the first split tests four and the second, whose name is no number, three.
SPLITS = {"1": [1, 2, 1] * 4, "by subject": [2, 1, 1, 1] * 3}


def sequences() -> list[Any]:
    random = np.random.default_rng(0)
    lengths = [3, 6, 2, 7, 5, 6, 4, 3, 7, 1, 5, 2]
    return [random.normal(number % CLASSES, 1.0, (n, SIZE)) for number, n in enumerate(lengths)]


def make_store(folder: Path, frames: int = STEPS, splits: dict[str, list[int]] = SPLITS) -> Path:
    store = FeatureStore.create(
        folder,
        clips=[f"{'ab'[number % CLASSES]}/{number}.avi" for number in range(12)],
        labels=[number % CLASSES for number in range(12)],
        splits=splits,
        class_names=["a", "b"],
        frames=frames,
        feature_size=SIZE,
        options={"source": "drawn"},
    )
    for number, sequence in enumerate(sequences()):
        store.write_clip(number, sequence.astype(np.float32))
    return folder


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def refuse(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def options_of(folder: Path) -> dict[str, Any]:
    options: dict[str, Any] = json.loads((folder / "options.json").read_text())
    return options


def last_epoch(folder: Path) -> dict[str, Any]:
    epoch: dict[str, Any] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return epoch


def measured(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return what evaluate says of accuracy, loss and number of sequences."""
    capsys.readouterr()
    run("evaluate", *words)
    found = re.search(r"accuracy .* sequences", capsys.readouterr().out)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store and a run for each padding; not to be changed."""
    folder = tmp_path_factory.mktemp("padding")
    make_store(folder / "store")
    for pad in PADDINGS:
        run("train", folder / "store", "--pad", pad, *MODEL, "--output", folder / pad)
    return folder


@pytest.mark.parametrize("pad", PADDINGS)
def test_evaluation_repeats_the_training_and_prediction_the_torch_model_on_arrays_padded_by_hand(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pad: str
) -> None:
    epoch = last_epoch(job / pad)
    said = measured(capsys, job / pad, job / "store")
    assert said == f"accuracy {epoch['test_accuracy']:.4f}  loss {epoch['test_loss']:.4f}  4 sequences"

    training = np.concatenate([x for x, mark in zip(sequences(), SPLITS["1"], strict=True) if mark == 1])
    weights = torch.load(job / pad / "last.pt", weights_only=True)
    np.testing.assert_allclose(weights["mean"], training.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(weights["deviation"], training.std(axis=0), rtol=1e-5)
    gru, head = nn.GRU(SIZE, 4), nn.Linear(4, CLASSES)
    of = {part: {} for part in ("gru", "head")}
    for name, value in weights["model"].items():
        part, _, rest = name.partition(".")
        of[part][rest] = value
    gru.load_state_dict(of["gru"])
    head.load_state_dict(of["head"])
    for number in (1, 4, 9):
        x = (sequences()[number] - training.mean(axis=0)) / training.std(axis=0)
        room = ((0, STEPS - len(x)), (0, 0))
        padded = {"lengths": x, "zeros": np.pad(x, room), "repeat-last": np.pad(x, room, mode="edge")}
        with torch.no_grad():
            expected = head(gru(torch.from_numpy(padded[pad]).float())[1][-1]).softmax(dim=0)
        np.save(tmp_path / "clip.npy", sequences()[number])
        capsys.readouterr()
        run("predict", job / pad, tmp_path / "clip.npy")
        shares = {line.split()[-1]: line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]}
        for name, share in zip("ab", expected.tolist(), strict=True):
            assert float(shares[name].rstrip("%")) == pytest.approx(100 * share, abs=0.06)  # rounded to 0.1


def test_padding_is_recorded_and_said_at_the_start(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = [options_of(job / pad)["training"] for pad in PADDINGS]
    assert [each["pad"] for each in recorded] == PADDINGS
    assert [each.get("padded_steps") for each in recorded] == [None, STEPS, STEPS]
    for pad, said in (
        ("lengths", "split 1, true lengths"),
        ("zeros", "split 1, padded to 9 steps with zeros"),
        ("repeat-last", "split 1, padded to 9 steps with the last step of each"),
    ):
        capsys.readouterr()
        run("train", job / "store", "--pad", pad, *MODEL, "--output", tmp_path / pad)
        assert capsys.readouterr().out.splitlines()[1] == said
    losses = [last_epoch(job / pad)["train_loss"] for pad in PADDINGS]
    assert len(set(losses)) == 3


def test_without_the_option_lengths_are_true_also_for_a_run_that_says_nothing_of_them(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", job / "store", *MODEL, "--output", tmp_path / "run")
    first, second = (
        torch.load(folder / "last.pt", weights_only=True) for folder in (job / "lengths", tmp_path / "run")
    )
    for name, value in first["model"].items():
        assert torch.equal(second["model"][name], value)
    options = options_of(tmp_path / "run")
    del options["training"]["pad"], options["split"]
    (tmp_path / "run" / "options.json").write_text(json.dumps(options))
    of_lengths = measured(capsys, job / "lengths", job / "store")
    assert measured(capsys, tmp_path / "run", job / "store") == of_lengths
    assert measured(capsys, tmp_path / "run", job / "store", "--pad", "zeros") != of_lengths


def test_padding_to_other_steps_than_the_runs_is_refused(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = make_store(tmp_path / "wider", frames=12)
    line = refuse(capsys, "evaluate", job / "zeros", wider)
    assert "wider has room for 12 steps, but" in line
    assert "padded to 9; give data with room for 9, or take --pad lengths" in line
    # True lengths do not depend on the room.
    same = measured(capsys, job / "zeros", job / "store", "--pad", "lengths")
    assert measured(capsys, job / "zeros", wider, "--pad", "lengths") == same
    assert measured(capsys, job / "lengths", wider) == measured(capsys, job / "lengths", job / "store")
    np.save(tmp_path / "long.npy", np.zeros((10, SIZE)))
    line = refuse(capsys, "predict", job / "zeros", tmp_path / "long.npy")
    assert "long.npy has 10 steps, but" in line
    assert "padded to 9; cut it to at most 9" in line
    run("predict", job / "lengths", tmp_path / "long.npy")


@pytest.mark.parametrize(
    "damage",
    [
        {"pad": "mirror"},
        {"padded_steps": None},
        {"padded_steps": "9"},
        {"padded_steps": 0},
        {"pad": "lengths"},
    ],
)
def test_a_padding_that_no_run_has_is_refused(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any]
) -> None:
    shutil.copytree(job / "zeros", tmp_path / "run")
    options = options_of(tmp_path / "run")
    options["training"] |= damage
    (tmp_path / "run" / "options.json").write_text(json.dumps(options))
    np.save(tmp_path / "clip.npy", sequences()[0])
    for words in (
        ("evaluate", tmp_path / "run", job / "store"),
        ("predict", tmp_path / "run", tmp_path / "clip.npy"),
    ):
        assert "options.json is damaged (padding" in refuse(capsys, *words)


def test_a_run_of_another_split_is_measured_on_that_one(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--split", "by subject", *MODEL, "--output", tmp_path / "run"]
    run("train", job / "store", *words)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("9 training and 3 test sequences")
    assert said[1] == "split by subject, true lengths"
    assert options_of(tmp_path / "run")["split"] == "by subject"
    epoch = last_epoch(tmp_path / "run")
    expected = f"accuracy {epoch['test_accuracy']:.4f}  loss {epoch['test_loss']:.4f}  3 sequences"
    assert measured(capsys, tmp_path / "run", job / "store") == expected
    assert measured(capsys, tmp_path / "run", job / "store", "--split", "1").endswith("4 sequences")
    # By name, not by place: the same clips in a store that lists and takes another split first.
    turned = make_store(tmp_path / "turned", splits={name: SPLITS[name] for name in reversed(SPLITS)})
    assert measured(capsys, job / "lengths", turned).endswith("4 sequences")


def test_a_split_that_changed_since_the_training_is_not_measured_on(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = make_store(tmp_path / "changed", splits={**SPLITS, "1": [2, 1, 1] * 4})
    line = refuse(capsys, "evaluate", job / "lengths", changed)
    assert "changed is another than when" in line
    assert "its test clips may have been trained on" in line
    assert main(["evaluate", str(job / "lengths"), str(changed), "--split", "1"]) == 0
    said = capsys.readouterr()
    assert "4 sequences" in said.out
    assert "warning:" in said.err
    assert "so it may know test clips of 1; the accuracy is then too high" in said.err
    assert main(["evaluate", str(job / "lengths"), str(job / "store"), "--split", "1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_split_that_is_not_there_is_refused(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refuse(capsys, "train", job / "store", "--split", "3", "--output", tmp_path / "run")
    assert "has no split '3'; it has 1, by subject" in line
    other = make_store(tmp_path / "other", splits={"drawn": SPLITS["1"], "again": SPLITS["1"]})
    line = refuse(capsys, "evaluate", job / "lengths", other)
    assert "lengths was trained on the split 1, which" in line
    assert "name one of its own with --split: drawn, again" in line
    said = measured(capsys, job / "lengths", other, "--split", "drawn")
    assert said == measured(capsys, job / "lengths", job / "store")
    np.savez(tmp_path / "data.npz", x_train=np.zeros((2, 3, 2)), y_train=[0, 1], x_test=0, y_test=0)
    line = refuse(capsys, "train", tmp_path / "data.npz", "--split", "1", "--output", tmp_path / "run")
    assert "has one split of its own; --split 1 is for feature stores" in line
    assert not (tmp_path / "run").exists()
