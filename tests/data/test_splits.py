from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbraid.data.splits import canonical_name, match_splits, random_split, read_splits, stratified_split
from seqbraid.errors import DataError, OptionsError

# What a file may be called in a split file: anything that can be printed, and does not end with a blank.
NAMES = (
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/") | st.just(" "), min_size=1)
    .filter(lambda name: not name.endswith(" "))
    .filter(lambda name: len(name.encode()) < 200)
)


def test_names_may_hold_blanks_and_signs(tmp_path: Path) -> None:
    (tmp_path / "shake_hands_test_split1.txt").write_text(
        "a b (1) #2.avi 1 \r\n\nplain.avi 2\n[x]!;&.avi\t0\n"
    )
    (tmp_path / "shake_hands_test_split2.txt").write_text("plain.avi 1 \n")
    (tmp_path / "class_list.txt").write_text("not a split file")
    assert read_splits(tmp_path) == {
        "1": {"shake_hands": {"a b (1) #2.avi": 1, "plain.avi": 2, "[x]!;&.avi": 0}},
        "2": {"shake_hands": {"plain.avi": 1}},
    }


@given(
    marks=st.dictionaries(NAMES.map(canonical_name), st.sampled_from([0, 1, 2])),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_names_and_marks_come_back(marks: dict[str, int], end: str) -> None:
    text = "".join(f"{name} {mark} {end}" for name, mark in marks.items())
    with TemporaryDirectory() as folder:
        (Path(folder) / "run_test_split1.txt").write_bytes(text.encode("utf-8-sig"))
        assert read_splits(folder) == {"1": {"run": marks}}


def test_splits_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for split in (10, 2, 1):
        (tmp_path / f"run_test_split{split}.txt").write_text("a.avi 1\n")
    assert list(read_splits(tmp_path)) == ["1", "2", "10"]


def test_only_the_classes_asked_for_are_read(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\n")
    (tmp_path / "walk_test_split1.txt").write_text("nonsense")
    assert read_splits(tmp_path, {"run"}) == {"1": {"run": {"a.avi": 1}}}
    with pytest.raises(DataError, match=r"no split files of sit, stand \("):
        read_splits(tmp_path, {"stand", "sit"})


def test_names_are_compared_in_one_form_whatever_system_wrote_them(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Café.avi")
    assert decomposed != "Café.avi"
    forms = {
        "utf8": "Café.avi".encode(),
        "decomposed": decomposed.encode(),
        "latin": "Café.avi".encode("latin-1"),
    }
    for class_name, name in forms.items():
        (tmp_path / f"{class_name}_test_split1.txt").write_bytes(name + b" 1 \n")
    assert read_splits(tmp_path) == {"1": {class_name: {"Café.avi": 1} for class_name in forms}}
    assert {canonical_name(os.fsdecode(name)) for name in forms.values()} == {"Café.avi"}


def test_the_binary_files_that_macos_leaves_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\n")
    (tmp_path / "._run_test_split1.txt").write_bytes(b"\0\5\x16\7")
    assert list(read_splits(tmp_path)["1"]) == ["run"]


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi", "1", " 1", "a.avi one", "a.avi 1\rb.avi 2"])
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "run_test_split1.txt").write_bytes(f"good.avi 1 \n{line}\n".encode())
    with pytest.raises(DataError, match=r"run_test_split1\.txt:2: "):
        read_splits(tmp_path)


def test_one_name_cannot_train_and_test(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\na.avi 1\na.avi 2\n")
    with pytest.raises(DataError, match=r"txt:3: .*twice, with 1 and 2"):
        read_splits(tmp_path)


def test_a_missing_folder_and_one_without_split_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read_splits(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no split files \(<class>_test_split1\.txt\)"):
        read_splits(tmp_path)


def test_a_class_without_a_file_for_one_of_the_splits_is_named(tmp_path: Path) -> None:
    for name in ("run_test_split1", "run_test_split2", "walk_test_split2", "sit_test_split1"):
        (tmp_path / f"{name}.txt").write_text("a.avi 1\n")
    with pytest.raises(DataError, match=r"has no sit_test_split2\.txt, walk_test_split1\.txt; .*there: 1, 2"):
        read_splits(tmp_path)


def test_two_files_for_one_class_and_split_are_refused(tmp_path: Path) -> None:
    for name in ("run_test_split1", "run_test_split01"):
        (tmp_path / f"{name}.txt").write_text("a.avi 1\n")
    with pytest.raises(DataError, match="the same class and split; remove one"):
        read_splits(tmp_path)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"run_test_split1\.txt: not a text file"):
        read_splits(tmp_path)


def test_clips_get_their_marks_and_strays_are_reported() -> None:
    files = {
        "1": {"run": {"a.avi": 1, "b.avi": 2, "gone.avi": 1}, "walk": {"a.avi": 2}},
        "2": {"run": {"a.avi": 2, "b.avi": 1}, "walk": {"away.avi": 1}},
    }
    clips = [("run", "x/a.avi"), ("run", "x/b.avi"), ("run", "x/new.avi"), ("walk", "y/a.avi")]
    splits, missing, unlisted = match_splits(files, clips)
    assert splits == {"1": [1, 2, 0, 2], "2": [2, 1, 0, 0]}
    assert missing == ["run/gone.avi", "walk/away.avi"]
    assert unlisted == ["x/new.avi"]


def test_two_clips_by_one_name_are_refused_where_a_split_file_names_it() -> None:
    clips = [("run", "run/Café.avi"), ("run", unicodedata.normalize("NFD", "run/Café.avi"))]
    assert match_splits({"1": {"run": {}}}, clips)[0] == {"1": [0, 0]}
    with pytest.raises(DataError, match=r"name run/Café\.avi once, but .* and .* are there"):
        match_splits({"1": {"run": {"Café.avi": 1}}}, clips)


def test_hmdb51_reads_at_full_size() -> None:
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SEQBRAID_TEST_DATA", default)) / "hmdb51_splits"
    if not folder.is_dir():
        pytest.skip(f"no HMDB51 split files at {folder}")
    splits = read_splits(folder)
    assert list(splits) == ["1", "2", "3"]
    for marks in splits.values():
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


@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**63 - 1),
)
def test_drawn_splits_divide_all_clips_by_the_fraction(labels: list[int], fraction: float, seed: int) -> None:
    stratified = stratified_split(labels, fraction, seed)
    assert set(stratified.tolist()) <= {1, 2}
    groups = [stratified[np.equal(labels, label)] for label in set(labels)]
    for marks in [*groups, random_split(len(labels), fraction, seed)]:
        tests = int((marks == 2).sum())
        assert tests + int((marks == 1).sum()) == len(marks)
        wanted = fraction * len(marks)
        if len(marks) == 1:
            assert tests == 0
        elif wanted < 0.5 or wanted > len(marks) - 0.5:
            assert tests == (1 if wanted < 0.5 else len(marks) - 1)
        else:
            assert abs(tests - wanted) <= 0.5
            assert 0 < tests < len(marks)


def test_a_random_split_has_no_regard_to_classes() -> None:
    tests = [int((random_split(1000, 0.1, seed)[:500] == 2).sum()) for seed in range(20)]
    # 50 on average in the first half; 20 draws of a stratified kind would all be equal.
    assert len(set(tests)) > 3
    assert 40 < np.mean(tests) < 60
    assert all((random_split(1000, 0.1, seed) == 2).sum() == 100 for seed in range(20))


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_a_fraction_outside_zero_and_one_is_refused(fraction: float) -> None:
    with pytest.raises(OptionsError, match="test_fraction"):
        stratified_split([0, 0], fraction)
    with pytest.raises(OptionsError, match="test_fraction"):
        random_split(2, fraction)
