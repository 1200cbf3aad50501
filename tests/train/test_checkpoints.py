from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from seqbraid.errors import OptionsError
from seqbraid.train import Checkpoints
from seqbraid.train.sealed import from_bytes


def made(folder: Path, keep: int, *updates: int) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints", keep)
    for each in updates:
        checkpoints.save(each, {"updates": each, "w": torch.full((50,), float(each))})
    return checkpoints


def latest(checkpoints: Checkpoints, said: list[str]) -> int | None:
    data = checkpoints.latest(said.append)
    return None if data is None else from_bytes(data, "it")["updates"]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_ones_are_kept(tmp_path: Path, keep: int) -> None:
    checkpoints = made(tmp_path, keep, 0, 9, 10, 100)
    assert len(list(checkpoints.folder.iterdir())) == keep
    said: list[str] = []
    assert latest(checkpoints, said) == 100
    assert not said


@pytest.mark.parametrize("damage", ["torn", "changed", "empty"])
def test_a_damaged_one_gives_way_to_the_one_before_and_is_told_of(tmp_path: Path, damage: str) -> None:
    checkpoints = made(tmp_path, 2, 5, 7)
    newest = max(checkpoints.folder.iterdir())
    data = bytearray(newest.read_bytes())
    place = data.find(torch.full((4,), 7.0).numpy().tobytes())
    data[place] ^= 1
    newest.write_bytes({"torn": data[: len(data) // 2], "changed": bytes(data), "empty": b""}[damage])
    said: list[str] = []
    assert latest(checkpoints, said) == 5
    assert len(said) == 1
    assert newest.name in said[0]
    assert "damaged" in said[0]
    # It no longer counts among those that are kept.
    checkpoints.save(6, {"updates": 6})
    assert latest(checkpoints, said) == 6
    assert len(list(checkpoints.folder.iterdir())) == 2


def test_without_a_whole_one_there_is_none(tmp_path: Path) -> None:
    said: list[str] = []
    assert latest(Checkpoints(tmp_path / "none"), said) is None
    checkpoints = made(tmp_path, 2, 1)
    next(checkpoints.folder.iterdir()).write_bytes(b"x")
    assert latest(checkpoints, said) is None
    assert len(said) == 1


def test_a_write_that_was_cut_off_is_cleared_away(tmp_path: Path) -> None:
    checkpoints = made(tmp_path, 2, 1)
    (checkpoints.folder / "update-000000002.pt.new").write_bytes(b"half")
    said: list[str] = []
    assert latest(checkpoints, said) == 1
    checkpoints.save(3, {"updates": 3})
    assert {path.suffix for path in checkpoints.folder.iterdir()} == {".pt"}


def test_a_full_disk_keeps_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = made(tmp_path, 1, 1)

    def fail(descriptor: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoints.save(2, {"updates": 2})
    assert "update-000000002.pt" in caught.value.filename
    assert [path.name for path in checkpoints.folder.iterdir()] == ["update-000000001.pt"]


def test_a_disk_without_room_is_refused_before_training(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
    checkpoints.require_room(1000)
    with pytest.raises(OptionsError, match=r"MB free, but 3 checkpoints and the weights need 6000000000\.0"):
        checkpoints.require_room(10**15)


def test_a_run_that_goes_on_needs_no_room_for_the_checkpoints_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = made(tmp_path, 2, 1, 2)
    size = max(path.stat().st_size for path in checkpoints.folder.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * size))
    checkpoints.require_room(size)
    checkpoints.clear()
    with pytest.raises(OptionsError, match="MB free"):
        checkpoints.require_room(size)
