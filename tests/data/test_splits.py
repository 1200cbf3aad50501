from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from seqbraid.data.splits import assign_splits, read_split_files, stratified_split
from seqbraid.errors import DataError


def test_names_may_hold_blanks_and_signs(tmp_path: Path) -> None:
    (tmp_path / "shake_hands_test_split1.txt").write_text(
        "a b (1) #2.avi 1 \r\n\nplain.avi 2\nspare.avi 0 \n"
    )
    (tmp_path / "shake_hands_test_split2.txt").write_text("plain.avi 1 \n")
    (tmp_path / "notes.txt").write_text("not a split file")
    assert read_split_files(tmp_path, 1) == {
        "shake_hands": {"a b (1) #2.avi": 1, "plain.avi": 2, "spare.avi": 0}
    }
    assert read_split_files(tmp_path, 2) == {"shake_hands": {"plain.avi": 1}}


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi", "1", "a.avi one"])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "run_test_split1.txt").write_text(f"good.avi 1 \n{line}\n")
    with pytest.raises(DataError, match=r"run_test_split1\.txt:2: "):
        read_split_files(tmp_path, 1)


def test_one_name_cannot_train_and_test(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\na.avi 2\n")
    with pytest.raises(DataError, match="twice, with 1 and 2"):
        read_split_files(tmp_path, 1)


def test_a_missing_folder_or_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read_split_files(tmp_path / "nowhere", 1)
    with pytest.raises(DataError, match=r"no <class>_test_split1\.txt; splits found there: none"):
        read_split_files(tmp_path, 1)
    (tmp_path / "run_test_split2.txt").write_text("a.avi 1\n")
    with pytest.raises(DataError, match="splits found there: 2"):
        read_split_files(tmp_path, 1)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file"):
        read_split_files(tmp_path, 1)


def test_clips_get_their_marks_and_strays_are_reported() -> None:
    marks = {"run": {"a.avi": 1, "b.avi": 2, "gone.avi": 1}, "walk": {"a.avi": 2}}
    splits, missing = assign_splits(["run/a.avi", "run/b.avi", "run/new.avi", "walk/a.avi"], marks)
    assert splits == [1, 2, 0, 2]
    assert missing == ["run/gone.avi"]


def test_split_files_of_another_data_set_are_refused() -> None:
    with pytest.raises(DataError, match="none of the 2 clips for training"):
        assign_splits(["run/a.avi", "run/b.avi"], {"other": {"a.avi": 1}})


def test_hmdb51_reads_at_full_size() -> None:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SEQBRAID_TEST_DATA", default)) / "hmdb51_splits"
    if not folder.is_dir():
        pytest.skip(f"no HMDB51 split files at {folder}")
    for split in (1, 2, 3):
        marks = read_split_files(folder, split)
        assert len(marks) == 51
        counts = Counter(mark for names in marks.values() for mark in names.values())
        assert counts == {1: 3570, 2: 1530, 0: 1666}


def test_a_drawn_split_takes_the_fraction_of_every_class() -> None:
    labels = [0] * 10 + [1] * 20 + [2] * 2 + [3]
    splits = stratified_split(labels, 0.3, seed=5)
    tests = [int((splits[np.equal(labels, label)] == 2).sum()) for label in range(4)]
    assert tests == [3, 6, 1, 0]
    assert set(splits.tolist()) == {1, 2}
    np.testing.assert_array_equal(splits, stratified_split(labels, 0.3, seed=5))
    assert not np.array_equal(splits, stratified_split(labels, 0.3, seed=6))


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_a_fraction_outside_zero_and_one_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction"):
        stratified_split([0, 1], fraction)
