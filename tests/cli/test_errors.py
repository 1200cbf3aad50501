"""Whatever a person does wrong ends in one line that names it and the remedy, and a non-zero exit code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

import seqbraid.train
import seqbraid.train.run_folder
from seqbraid.cli import train as train_command
from seqbraid.cli.main import main
from seqbraid.data.store import FeatureStore
from seqbraid.mgrit import SolverDivergedError, SolverDivergedWarning
from seqbraid.train.sealed import write_sealed

WriteArrays = Callable[..., Path]
TRAIN = ("--epochs", "1", "--hidden-size", "4")


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """Run a command that must fail with `code`, and return the one line it says."""
    capsys.readouterr()
    try:
        result = main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        result = int(str(leaving.code))
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert result == code, said.err
    assert len(lines) == 1, said.err
    assert lines[0].startswith(f"seqbraid {arguments[0]}: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lr", "0"], "argument --lr: '0' is not a positive number"),
        (["--lr", "1e38"], "argument --lr: '1e38' is not a positive number below 1e30"),
        (["--lr", "nan"], "argument --lr: 'nan' is not a positive number"),
        (["--epochs", "-1"], "argument --epochs: '-1' is not a whole number from 1"),
        (
            ["--solver", "mgrit", "--coarsening", "0"],
            "--coarsening: '0' is not a whole number from 1",
        ),
        (["--coarsening", "3"], "--coarsening is for --solver mgrit; add that, or leave it out"),
        (["--cell", "lstm"], "argument --cell: invalid choice: 'lstm'"),
        (["--threads", "0"], "argument --threads: '0' is not a whole number from 1"),
    ],
)
def test_options_out_of_range(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in refuse(capsys, "train", write_arrays(), "--output", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def changed(name: str, index: object, value: float) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name][index] = value

    return change


def replaced(name: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = value(arrays.get(name))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("y_test"), "has no y_test; it holds x_test, x_train, y_train"),
        (changed("x_train", (2, 3, 1), np.nan), "beyond 1e30 within sequence 2;"),
        (
            replaced("x_test", lambda x: x.astype(float) * 1e300),
            "x_test holds nan, inf or values beyond 1e30 within",
        ),
        (changed("x_test", (2, 3, 1), np.inf), "beyond 1e30 within sequence 2;"),
        (replaced("x_train", lambda x: x.astype(object)), "cannot be read (Object arrays"),
        (
            replaced("x_train", lambda x: x[0]),
            "x_train is float32 (6, 2); expected real numbers",
        ),
        (replaced("x_train", lambda x: x.astype(complex)), "x_train is complex128"),
        (replaced("x_test", lambda x: x[:, :, :1]), "x_train has 2 features a step and x_test 1"),
        (
            replaced("y_train", lambda y: y.astype(float)),
            "y_train is float64 (12,); expected 12 whole",
        ),
        (replaced("y_train", lambda y: y[1:]), "y_train is int64 (11,); expected 12 whole"),
        (changed("y_train", 0, -1), "y_train holds -1; count the classes from 0"),
        (changed("y_test", 0, 10**9), "y holds the class 1000000000, but there are only 12"),
        (replaced("label", lambda _: ["a", "b"]), "label names 2 classes, but y holds 2; count"),
        (replaced("length_test", lambda _: [6, 6, 7, 6, 6, 6]), "length_test holds 7; expected 1 to 6"),
        (replaced("length_train", lambda _: [0] + [6] * 11), "length_train holds 0; expected 1 to 6"),
        (replaced("length_train", lambda _: [2.5] * 12), "length_train is float64"),
    ],
)
def test_arrays_that_cannot_be_used(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    with np.load(write_arrays()) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    line = refuse(capsys, "train", tmp_path / "bad.npz", "--output", tmp_path / "run")
    assert str(tmp_path / "bad.npz") in line
    assert message in line


def test_a_single_class(
    write_arrays: WriteArrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_arrays(y_train=np.zeros(12, int), y_test=np.zeros(6, int))
    assert "has one class (0)" in refuse(capsys, "train", data, "--output", tmp_path / "run")


def test_files_that_are_no_arrays(
    write_arrays: WriteArrays, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_arrays().read_bytes()
    damaged = bytearray(whole)
    damaged[400:420] = b"x" * 20
    contents = {"cut": whole[:-200], "text": b"1, 2, 3\n", "empty": b"", "damaged": bytes(damaged)}
    for name, content in contents.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        line = refuse(capsys, "train", tmp_path / f"{name}.npz", "--output", tmp_path / "run")
        assert f"{name}.npz" in line
        assert "expected an .npz of plain arrays" in line
    line = refuse(capsys, "train", tmp_path / "none.npz", "--output", tmp_path / "run")
    assert "none.npz does not exist; expected a feature store, an .npz file" in line
    assert not (tmp_path / "run").exists()


def make_store(folder: Path, complete: bool, **options: object) -> FeatureStore:
    store = FeatureStore.create(
        folder,
        clips=["a/1.avi", "a/2.avi", "b/1.avi", "b/2.avi"],
        labels=[0, 0, 1, 1],
        splits={"1": [1, 2, 1, 2]},
        class_names=["a", "b"],
        frames=5,
        feature_size=2,
        options={"backbone": "resnet18", "weights": "random:0", "weights_sha256": "0", "size": 32, **options},
    )
    random = np.random.default_rng(0)
    for index in range(4 if complete else 3):
        store.write_clip(index, random.normal(size=(5, 2)).astype(np.float32))
    return store


def test_a_store_that_is_incomplete_or_lacks_a_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "partly", complete=False)
    line = refuse(capsys, "train", tmp_path / "partly", "--output", tmp_path / "run")
    assert "incomplete: 1 of 4 clips are pending; running the same `seqbraid preprocess`" in line
    store = make_store(tmp_path / "no_test", complete=True)
    store.mark_failed(1)
    store.mark_failed(3)
    line = refuse(capsys, "train", tmp_path / "no_test", "--output", tmp_path / "run")
    assert "has no clip in the test part of split 1" in line
    (tmp_path / "folder").mkdir()
    line = refuse(capsys, "train", tmp_path / "folder", "--output", tmp_path / "run")
    assert "is not a feature store (no store.json)" in line


def test_features_of_other_options_than_the_runs(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, options in {
        "same": {},
        "size": {"size": 64},
        "weights": {"weights": "random:1", "weights_sha256": "1"},
    }.items():
        make_store(tmp_path / name, complete=True, **options)
    assert main(["train", str(tmp_path / "same"), "--output", str(tmp_path / "run"), *TRAIN]) == 0
    line = refuse(capsys, "evaluate", tmp_path / "run", tmp_path / "size")
    assert "size was made with size 64, but" in line
    assert "trained on features with size 32; make features with the same options" in line
    line = refuse(capsys, "evaluate", tmp_path / "run", tmp_path / "weights")
    assert "other weights (random:1) than" in line
    assert "trained on (random:0); make features" in line
    line = refuse(capsys, "evaluate", trained[0], tmp_path / "same")
    assert "same holds video features, but" in line
    assert "was trained on arrays" in line


def test_data_of_other_classes_or_features_than_the_runs(
    trained: tuple[Path, Path], write_arrays: WriteArrays, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_arrays(label=np.array(["x", "y", "z"]))
    line = refuse(capsys, "evaluate", trained[0], other)
    assert "has the classes x, y, z, but" in line
    assert "trained on 0, 1, 2; give data" in line
    wider = write_arrays(x_train=np.zeros((12, 6, 5)), x_test=np.zeros((6, 6, 5)))
    assert "was made with features 5, but" in refuse(capsys, "evaluate", trained[0], wider)


def test_a_run_that_is_missing_or_damaged(
    run_copy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = run_copy
    line = refuse(capsys, "evaluate", tmp_path / "none", data)
    assert "none is not a run folder: it has no options.json; `seqbraid train` makes one" in line
    assert "is not a run folder" in refuse(capsys, "evaluate", data, data)

    weights = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(weights[: len(weights) // 2])
    assert "last.pt is damaged (not a file of tensors); train again" in refuse(capsys, "evaluate", run, data)
    torch.save([1, 2], run / "last.pt")
    assert "last.pt is damaged (it holds a list)" in refuse(capsys, "evaluate", run, data)
    torch.save({"model": {}}, run / "last.pt")
    assert "last.pt is damaged (its checksum does not match)" in refuse(capsys, "evaluate", run, data)
    write_sealed(run / "last.pt", {"model": {"head.weight": torch.zeros(2)}})
    assert "options.json and last.pt do not belong together" in refuse(capsys, "evaluate", run, data)
    (run / "last.pt").unlink()
    assert "last.pt does not exist; did the training finish" in refuse(capsys, "evaluate", run, data)

    options = json.loads((run / "options.json").read_text())
    for damage, message in (
        ("{", "options.json is damaged"),
        ("[]", "options.json is damaged (it holds a list)"),
        (json.dumps({**options, "model": 3}), "options.json is damaged (model is no dict)"),
        (json.dumps({k: v for k, v in options.items() if k != "solver"}), "damaged (solver is missing)"),
        (json.dumps({**options, "solver": {"solver": "magic"}}), "the run's solver cannot be made from"),
    ):
        (run / "options.json").write_text(damage)
        assert message in refuse(capsys, "evaluate", run, data)


def test_a_run_without_an_epoch_can_be_shown_and_damaged_metrics_are_named(
    run_copy: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = run_copy
    (run / "metrics.jsonl").unlink()
    assert main(["info", str(run)]) == 0
    assert "epoch 1" not in capsys.readouterr().out
    (run / "metrics.jsonl").write_text('{"epoch":')
    assert "metrics.jsonl is damaged" in refuse(capsys, "info", run)


def test_weights_that_would_run_code_are_refused(
    run_copy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "went off",)

    run, data = run_copy
    for content in (pickle.dumps(Bomb(), protocol=2), None):
        if content is None:
            torch.save(Bomb(), run / "last.pt")
        else:
            (run / "last.pt").write_bytes(content)
        assert "last.pt is damaged" in refuse(capsys, "evaluate", run, data)
    assert not (tmp_path / "went off").exists()


def test_an_output_that_cannot_be_written(
    run_copy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = run_copy
    before = (run / "options.json").read_bytes()
    line = refuse(capsys, "train", data, "--output", run)
    assert (
        "run holds a run already; choose another --output, or say --resume to go on with it, or --overwrite"
        in line
    )
    assert (run / "options.json").read_bytes() == before
    (tmp_path / "file").touch()
    line = refuse(capsys, "train", data, "--output", tmp_path / "file")
    assert "file is a file; choose another --output" in line
    line = refuse(capsys, "train", data, "--output", tmp_path / "file" / "run", code=1)
    assert "file/run: Not a directory; a part of this path is a file" in line
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "best.pt").write_text("precious")
    line = refuse(capsys, "train", data, "--output", tmp_path / "mine", "--overwrite")
    assert "mine is no run folder but holds best.pt" in line
    assert (tmp_path / "mine" / "best.pt").read_text() == "precious"


def test_a_full_disk(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    line = refuse(capsys, "train", write_arrays(), "--output", tmp_path / "run", *TRAIN, code=1)
    assert "options.json.new: No space left on device; make room there" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_weights_written_to_a_full_disk_are_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "last.pt.new").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        seqbraid.train.RunFolder(tmp_path).save_weights("last", {"x": torch.zeros(100_000)})
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "last.pt").exists()


def test_prediction_of_what_is_no_recording(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    assert "none.npy is not a file" in refuse(capsys, "predict", run, tmp_path / "none.npy")
    for name, array, message in (
        ("wide", np.zeros((4, 3)), "wide.npy is float64 (4, 3); expected real numbers of shape (T, 2)"),
        ("nan", np.full((4, 2), np.nan), "nan.npy holds nan, inf or values beyond 1e30"),
        ("large", np.full((4, 2), 1e300), "large.npy holds nan, inf or values beyond 1e30"),
        ("words", np.array([["a", "b"]]), "words.npy is <U1 (1, 2)"),
    ):
        np.save(tmp_path / name, array)
        assert message in refuse(capsys, "predict", run, tmp_path / f"{name}.npy")
    (tmp_path / "clip.avi").write_text("text")
    assert "clip.avi is not a .npy array" in refuse(capsys, "predict", run, tmp_path / "clip.avi")
    assert "is an archive" in refuse(capsys, "predict", run, data)


def test_features_with_nan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "store", complete=True)
    store.write_clip(0, np.array([[1, np.nan]], dtype=np.float32))
    line = refuse(capsys, "train", tmp_path / "store", "--output", tmp_path / "run", *TRAIN)
    assert "nan or inf in 1 of 2 features, the first is number 1; make the features anew" in line


def test_training_that_diverges(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def overflow(logits: torch.Tensor, labels: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        return logits.sum() * torch.inf

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", overflow)
    line = refuse(capsys, "train", write_arrays(), "--output", tmp_path / "run", *TRAIN, code=3)
    assert "inf in epoch 1, sequence 0 of 12; take a smaller learning rate (--lr)" in line


def test_a_solver_that_diverges(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(*arguments: object) -> NoReturn:
        raise SolverDivergedError("layer 0: the solve diverged, relative residuals 1, 2; take coarse='x'")

    monkeypatch.setattr(seqbraid.train.Trainer, "run", diverge)
    line = refuse(capsys, "train", write_arrays(), "--output", tmp_path / "run", *TRAIN, code=3)
    assert line.endswith(
        "residuals 1, 2; try --coarse frozen, a smaller --coarsening, or --on-divergence serial"
    )


def test_warnings_take_one_line_and_recurring_ones_are_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(options: object) -> None:
        for residual in range(5):
            warnings.warn(f"the solve diverged, residual {residual}", SolverDivergedWarning, stacklevel=1)

    monkeypatch.setattr(train_command, "run", warn)
    assert main(["train", "data", "--output", "run"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "seqbraid train: warning: the solve diverged, residual 0",
        "seqbraid train: warning: 4 more of the kind SolverDivergedWarning",
    ]


def test_a_defect_of_ours_shows_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: object) -> NoReturn:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(train_command, "run", fail)
    assert main(["train", "data", "--output", "run"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ZeroDivisionError: ours" in said


def test_the_traceback_of_an_error_can_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBRAID_TRACEBACK", "1")
    assert main(["info", str(tmp_path / "none")]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_option_that_there_is_not_points_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (["train", "data", "--hiden-size", "3"], ["plot", "run", "x", "--hiden-size", "3"]):
        with pytest.raises(SystemExit):
            main(command)
        name = "seqbraid plot run" if command[0] == "plot" else "seqbraid train"
        said = capsys.readouterr().err
        hint = "; did you mean --hidden-size?" if name == "seqbraid train" else ""
        assert said == f"{name}: error: unrecognized arguments: --hiden-size 3{hint}; see {name} --help\n"


def test_a_feature_store_is_no_place_for_a_run(
    write_arrays: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main(["preprocess", str(write_arrays()), str(store)]) == 0
    capsys.readouterr()
    assert main(["train", str(store), "--output", str(store), "--epochs", "1"]) == 2
    assert f"{store} is a feature store; choose another --output" in capsys.readouterr().err
    assert not (store / "options.json").exists()
