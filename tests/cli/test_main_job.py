"""The main job from end to end: videos, features, training on one rank and on two, evaluation, prediction."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared_ranks import RunMain

from preprocess.figures import CLASSES, generate
from seqbraid.cli.main import main
from seqbraid.data.store import FeatureStore

MODEL = ["--cell", "implicit", "--hidden-size", "8", "--num-layers", "2", "--lr", "0.01"]
# 24 training sequences in batches of 10: the last batch is a smaller one.
TRAINING = ["--epochs", "3", "--batch-size", "10", "--seed", "3"]
MGRIT = ["--solver", "mgrit", "--coarsening", "2", "--forward-iterations", "3", "--backward-iterations", "3"]
BACKBONE = ["--backbone", "squeezenet1_1", "--weights", "random:0", "--layer", "pool"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, run_main: RunMain) -> Path:
    """Return a folder with videos, features and three runs: serial, padded, and MGRIT on two ranks."""
    folder = tmp_path_factory.mktemp("job")
    generate(folder / "videos", clips_per_class=4, frames=9, size=32, progress=False)
    features = str(folder / "features")
    # Room for more frames than any clip has, for padding.
    shape = ["--frames", "12", "--size", "32", "--threads", "1"]
    assert main(["preprocess", str(folder / "videos"), features, *BACKBONE, *shape]) == 0
    for name, pad in (("serial", "lengths"), ("padded", "repeat-last")):
        words = ["train", features, *MODEL, *TRAINING, "--pad", pad, "--output", str(folder / name)]
        assert main(words) == 0
    parallel = ["train", features, *MODEL, *TRAINING, *MGRIT, "--output", str(folder / "mgrit")]
    done = run_main(2, *parallel)
    assert done.returncode == 0, done.stderr
    assert "2 ranks x 1 thread, MGRIT with coarsening 2" in done.stdout
    return folder


def epochs_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["serial", "mgrit"])
def test_a_run_folder_holds_options_metrics_and_weights(job: Path, name: str) -> None:
    run = job / name
    files = {"options.json", "config.toml", "metrics.jsonl", "evaluation.json", "last.pt", "best.pt"}
    assert {path.name for path in run.iterdir()} == {*files, "checkpoints"}
    options = json.loads((run / "options.json").read_text())
    assert options["class_names"] == sorted(CLASSES)
    assert options["model"] == {
        "feature_size": 512,
        "classes": 8,
        "hidden_size": 8,
        "num_layers": 2,
        "cell": "implicit",
        "gamma": 1.0,
        "dropout": 0.0,
    }
    training = {"epochs": 3, "batch_size": 10, "learning_rate": 0.01, "seed": 3, "pad": "lengths"}
    assert options["training"].items() >= training.items()
    assert options["split"] == "drawn"
    assert options["features"] == FeatureStore.open(job / "features").options
    assert options["solver"]["solver"] == name
    assert options["ranks"] == (2 if name == "mgrit" else 1)
    assert [epoch["epoch"] for epoch in epochs_of(run)] == [1, 2, 3]


@pytest.mark.parametrize("name", ["serial", "mgrit"])
def test_the_best_weights_are_those_of_the_best_epoch(job: Path, name: str) -> None:
    accuracies = [epoch["test_accuracy"] for epoch in epochs_of(job / name)]
    best = torch.load(job / name / "best.pt", weights_only=True)
    assert best["epoch"] == 1 + int(np.argmax(accuracies))  # the first of equals
    assert torch.load(job / name / "last.pt", weights_only=True)["epoch"] == 3


def test_one_rank_and_two_train_alike(job: Path) -> None:
    serial, parallel = epochs_of(job / "serial"), epochs_of(job / "mgrit")
    assert parallel[0]["train_loss"] == pytest.approx(serial[0]["train_loss"], rel=1e-4)
    assert serial[-1]["train_loss"] < serial[0]["train_loss"]
    assert parallel[-1]["train_loss"] < parallel[0]["train_loss"]
    assert serial[0]["forward_residual"] == 0.0
    assert 0.0 < parallel[0]["forward_residual"] < 1e-3
    assert 0.0 < parallel[0]["backward_residual"] < 1e-2


@pytest.mark.parametrize("name", ["serial", "padded"])
def test_evaluation_repeats_the_accuracy_of_the_training(
    job: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    epochs = epochs_of(job / name)
    best = max(epochs, key=lambda epoch: (epoch["test_accuracy"], -epoch["epoch"]))
    for which, expected in (("last", epochs[-1]), ("best", best)):
        capsys.readouterr()
        assert main(["evaluate", str(job / name), str(job / "features"), "--which", which]) == 0
        said = capsys.readouterr().out
        assert f"accuracy {expected['test_accuracy']:.4f}  loss {expected['test_loss']:.4f}" in said
        assert f"  top-5 {expected['test_top5']:.4f}  " in said


def test_evaluation_on_two_ranks_repeats_that_of_a_parallel_training(job: Path, run_main: RunMain) -> None:
    done = run_main(2, "evaluate", str(job / "mgrit"), str(job / "features"))
    assert done.returncode == 0, done.stderr
    last = epochs_of(job / "mgrit")[-1]
    assert f"test: accuracy {last['test_accuracy']:.4f}  loss {last['test_loss']:.4f}" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_prediction_lists_probabilities_of_all_classes(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = [str(job / "videos" / name / f"{name}_000.avi") for name in ("hop", "rise")]
    capsys.readouterr()
    assert main(["predict", str(job / "mgrit"), *clips, "--top", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 9
    for clip, (first, *rest) in zip(clips, (lines[:9], lines[9:]), strict=True):
        assert re.fullmatch(re.escape(clip) + r" \(\d steps\)", first)
        shares = [float(line.split("%")[0]) for line in rest]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(100.0, abs=8 * 0.05)  # each is rounded to 0.1
        assert sorted(line.split()[-1] for line in rest) == sorted(CLASSES)


@pytest.mark.parametrize("name", ["serial", "padded"])
def test_a_prediction_agrees_with_the_evaluation(
    job: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    store = FeatureStore.open(job / "features")
    tests = [index for index in range(len(store)) if store.splits[index] == 2]
    clips = [str(job / "videos" / store.clips[index]) for index in tests]
    capsys.readouterr()
    assert main(["predict", str(job / name), *clips, "--top", "1"]) == 0
    named = [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1::2]]
    truth = [store.class_names[store.labels[index]] for index in tests]
    right = [one == other for one, other in zip(named, truth, strict=True)]
    assert np.mean(right) == pytest.approx(epochs_of(job / name)[-1]["test_accuracy"])


def test_a_prediction_takes_the_frames_that_the_features_were_made_of(
    job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features, run = str(tmp_path / "features"), str(tmp_path / "run")
    shape = ["--frames", "12", "--size", "32", "--stride", "2", "--threads", "1"]
    assert main(["preprocess", str(job / "videos"), features, *BACKBONE, *shape]) == 0
    assert main(["train", features, "--epochs", "1", "--hidden-size", "4", "--output", run]) == 0
    store = FeatureStore.open(features)
    clips = [str(job / "videos" / clip) for clip in store.clips[:3]]
    capsys.readouterr()
    assert main(["predict", run, *clips, "--top", "1"]) == 0
    expected = [f"{clip} ({steps} steps)" for clip, steps in zip(clips, store.lengths[:3], strict=True)]
    assert capsys.readouterr().out.splitlines()[::2] == expected


def test_a_prediction_needs_the_weights_of_the_features(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(job / "videos" / "hop" / "hop_000.avi")
    assert main(["predict", str(job / "serial"), clip, "--weights", "random:1"]) == 2
    assert "the squeezenet1_1 weights random:1 have sha256" in capsys.readouterr().err
    (job / "broken.avi").write_text("text")
    assert main(["predict", str(job / "serial"), str(job / "broken.avi")]) == 2
    assert "broken.avi: cannot be opened as a video" in capsys.readouterr().err


def test_a_broken_video_does_not_stop_the_others(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = [str(job / "videos" / "hop" / f"hop_00{number}.avi") for number in range(2)]
    broken = str(job / "empty.avi")
    Path(broken).touch()
    capsys.readouterr()
    assert main(["predict", str(job / "serial"), clips[0], broken, clips[1], "--top", "1"]) == 2
    said = capsys.readouterr()
    assert [line.split(" (")[0] for line in said.out.splitlines()[::2]] == clips
    assert said.err.splitlines() == [
        "seqbraid predict: error: 1 of 3 clips cannot be read:",
        f"  {broken}: the file is empty",
    ]


def test_info_shows_the_installation_a_store_and_a_run(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        ([], ("torch ", "ranks ", "threads a rank")),
        ([str(job / "features")], ("32 (24 train, 8 test, 0 unused, 0 failed, 0 pending)", "squeezenet1_1")),
        ([str(job / "mgrit")], ("solver coarsening", "training seed", "epoch 3")),
    ):
        capsys.readouterr()
        assert main(["info", *arguments]) == 0
        said = capsys.readouterr().out
        for text in expected:
            assert text in said
