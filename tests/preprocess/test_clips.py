from __future__ import annotations

from pathlib import Path

import pytest

from preprocess.clips import find_clips
from seqbraid.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_clips_are_sorted_and_labelled_by_folder(tmp_path: Path) -> None:
    touch(
        tmp_path, "run/b (2) #1.AVI", "run/a.mp4", "clap/z.webm", "run/notes.txt", "run/._a.mp4", "loose.avi"
    )
    found = find_clips(tmp_path)
    assert found.class_names == ["clap", "run"]
    assert found.clips == ["clap/z.webm", "run/a.mp4", "run/b (2) #1.AVI"]
    assert found.labels == [0, 1, 1]


def test_folders_without_videos_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "clap/a.avi", "splits/run_test_split1.txt")
    (tmp_path / "empty").mkdir()
    assert find_clips(tmp_path).class_names == ["clap", "run"]


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_clips(tmp_path / "nowhere")


def test_a_root_without_class_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.avi", "splits/run_test_split1.txt")
    with pytest.raises(DataError, match="no class folders"):
        find_clips(tmp_path)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi")
    with pytest.raises(DataError, match=r"only one class .*run"):
        find_clips(tmp_path)
