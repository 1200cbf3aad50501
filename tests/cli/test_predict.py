"""Predictions of several clips, some of which cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqbraid.cli.main import main


def test_clips_that_cannot_be_read_do_not_stop_the_others(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = trained
    random = np.random.default_rng(0)
    arrays = {
        "first": random.normal(size=(4, 2)),
        "wide": np.zeros((4, 3)),
        "second": random.normal(size=(7, 2)),
        "nan": np.full((4, 2), np.nan),
    }
    for name, array in arrays.items():
        np.save(tmp_path / name, array)
    clips = [str(tmp_path / f"{name}.npy") for name in ("none", *arrays)]
    (tmp_path / "folder.npy").mkdir()
    assert main(["predict", str(run), *clips, str(tmp_path / "folder.npy"), "--top", "1"]) == 2
    said = capsys.readouterr()
    good = [str(tmp_path / "first.npy"), str(tmp_path / "second.npy")]
    shown = said.out.splitlines()
    assert shown[::2] == [f"{good[0]} (4 steps)", f"{good[1]} (7 steps)"]
    head, *reasons = said.err.splitlines()
    assert head == "seqbraid predict: error: 4 of 6 clips cannot be read:"
    assert reasons == [
        f"  {tmp_path}/none.npy is not a file",
        f"  {tmp_path}/folder.npy is not a file",
        f"  {tmp_path}/wide.npy is float64 (4, 3); expected real numbers of shape (T, 2)",
        f"  {tmp_path}/nan.npy holds nan, inf or values beyond 1e30",
    ]
    # The others are what they are without them.
    assert main(["predict", str(run), *good, "--top", "1"]) == 0
    again = capsys.readouterr()
    assert again.out.splitlines() == shown
    assert again.err == ""


def test_a_file_that_may_not_be_read_is_one_of_them(
    trained: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = np.load

    def guard(path: Path, **options: object) -> object:
        if path.name == "secret.npy":
            raise PermissionError(13, "Permission denied", str(path))
        return load(path, **options)

    monkeypatch.setattr(np, "load", guard)
    for name in ("secret", "clip"):
        np.save(tmp_path / name, np.ones((3, 2)))
    words = [str(tmp_path / "secret.npy"), str(tmp_path / "clip.npy")]
    assert main(["predict", str(trained[0]), *words]) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path}/clip.npy (3 steps)")
    assert said.err.splitlines()[1:] == [f"  {tmp_path}/secret.npy: Permission denied"]


def test_a_wrong_run_is_named_whatever_the_clips_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "clip", np.ones((3, 2)))
    for clips in (["none.npy"], ["none.npy", "clip.npy"]):
        assert main(["predict", str(tmp_path / "run"), *(str(tmp_path / clip) for clip in clips)]) == 2
        assert "run is not a run folder: it has no options.json" in capsys.readouterr().err
