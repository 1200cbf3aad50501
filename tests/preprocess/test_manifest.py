from __future__ import annotations

import csv
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.manifest import read_manifest
from seqbraid.errors import DataError


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    """Write a manifest; files a.avi, b.avi and sub/c.avi lie beside it."""
    (path / "sub").mkdir(exist_ok=True)
    for name in ("a.avi", "b.avi", "sub/c.avi"):
        (path / name).touch()
    manifest = path / "clips.csv"
    manifest.write_bytes(end.join([*lines, ""]).encode())
    return manifest


def test_paths_labels_and_splits_are_read(tmp_path: Path) -> None:
    manifest = read_manifest(
        write(tmp_path, "path,label,split", "b.avi,run,train", "sub/c.avi,walk,test", "a.avi,run,unused")
    )
    assert manifest.clips == [("run", "b.avi"), ("walk", "sub/c.avi"), ("run", "a.avi")]
    assert manifest.marks == {"b.avi": 1, "sub/c.avi": 2, "a.avi": 0}
    assert manifest.missing == []


def test_columns_stand_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    lines = (
        "Split , note,LABEL,fps, path",
        ' 1,"a, ""b""",run,,a.avi',
        "2,,walk,25 , sub/c.avi",
        ",,,,",
        "",
        "0,x,run,,b.avi",
    )
    for end in ("\n", "\r\n", "\r"):
        manifest = read_manifest(write(tmp_path, "\ufeff" + lines[0], *lines[1:], end=end))
        assert manifest.clips == [("run", "a.avi"), ("walk", "sub/c.avi"), ("run", "b.avi")]
        assert manifest.marks == {"a.avi": 1, "sub/c.avi": 2, "b.avi": 0}


def test_a_manifest_without_splits_marks_nothing(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, "label,path", "run,a.avi")).marks is None


def test_clips_that_are_not_there_are_told_apart(tmp_path: Path) -> None:
    long = "x" * 300 + ".avi"
    (tmp_path / "round.avi").symlink_to("round.avi")
    lines = ("gone.avi,run,1", "sub,walk,2", "sub/c.avi/d.avi,walk,1", f"{long},run,1", "round.avi,run,1")
    manifest = read_manifest(write(tmp_path, "path,label,split", "a.avi,run,1", *lines))
    assert manifest.clips == [("run", "a.avi")]
    assert manifest.missing == [
        *(
            ("run", "gone.avi"),
            ("walk", "sub"),
            ("walk", "sub/c.avi/d.avi"),
            ("run", long),
            ("run", "round.avi"),
        )
    ]


def test_a_manifest_of_which_nothing_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 2 clips .*clips\.csv lists is there; first: 'x\.avi'"):
        read_manifest(write(tmp_path, "path,label", "x.avi,run", "y.avi,run"))
    with pytest.raises(DataError, match=r"clips\.csv lists no clips"):
        read_manifest(write(tmp_path, "path,label"))
    with pytest.raises(DataError, match=r"there is no manifest .*none\.csv"):
        read_manifest(tmp_path / "none.csv")


def test_a_path_may_wander_but_not_leave_the_folder(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    assert read_manifest(write(inner, "path,label", "./sub/..//sub/./c.avi,run")).clips == [
        ("run", "sub/c.avi")
    ]
    (tmp_path / "outside.avi").touch()
    (inner / "up").symlink_to(tmp_path)
    (inner / "link.avi").symlink_to("../outside.avi")
    (inner / "within.avi").symlink_to("sub/c.avi")
    leaving = (
        "../outside.avi",
        f"{inner}/a.avi",
        "//a.avi",
        "../inner/a.avi",
        "sub/../../outside.avi",
        "..",
        "/",
    )
    for path in (*leaving, "up/outside.avi", "link.avi", "up/gone.avi", "../gone.avi"):
        with pytest.raises(DataError, match=r"clips\.csv:3: '.*' leads out of the manifest's folder"):
            read_manifest(write(inner, "path,label", "a.avi,run", f"{path},run"))
    assert read_manifest(write(inner, "path,label", "within.avi,run")).clips == [("run", "within.avi")]


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real", "path,label", "a.avi,run")
    (tmp_path / "link").symlink_to("real")
    assert read_manifest(tmp_path / "link" / "clips.csv").clips == [("run", "a.avi")]


def test_names_are_found_in_either_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Café.avi") for form in ("NFC", "NFD"))
    (tmp_path / decomposed).touch()
    manifest = read_manifest(write(tmp_path, "path,label", f"{composed},{decomposed}"))
    assert manifest.clips == [("Café.avi", decomposed)]
    (tmp_path / decomposed).rename(tmp_path / composed)
    assert read_manifest(write(tmp_path, "path,label", f"{decomposed},x")).clips == [("x", composed)]
    with pytest.raises(DataError, match=r":3: .* is listed twice, first in line 2"):
        read_manifest(write(tmp_path, "path,label", f"{composed},x", f"{decomposed},x"))


@pytest.mark.parametrize("again", ["a.avi", "./a.avi", ".//a.avi", "sub/../a.avi"])
def test_a_path_that_is_listed_twice_is_refused(tmp_path: Path, again: str) -> None:
    with pytest.raises(DataError, match=r"clips\.csv:4: '.*' is listed twice, first in line 2"):
        read_manifest(write(tmp_path, "path,label", "a.avi,run", "b.avi,run", f"{again},walk"))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (",run,train", "the path is empty"),
        ('a.avi,"  ",train', "the label is empty"),
        ("a.avi,run,training", "the split 'training' is none of train, test, unused"),
        ("a.avi,run,", "the split '' is none of"),
        ("a.avi,run,3", "the split '3' is none of"),
        ("a.avi,run", "2 values for 3 columns"),
        ("a,b.avi,run,train", "4 values for 3 columns; quote values with commas"),
        ('"a.avi,run,train', r"not CSV \("),
        ('"a"b.avi,run,train', r"not CSV \("),
        ("a" * 200_000 + ",run,train", r"not CSV \("),
        ("a.avi,ru\0n,train", "NUL"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"clips\.csv:3: .*{words}"):
        read_manifest(write(tmp_path, "path,label,split", "b.avi,run,train", row, "sub/c.avi,run,test"))


def test_lines_are_counted_through_quoted_line_ends(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clips\.csv:4: the label is empty"):
        read_manifest(write(tmp_path, "path,label,note", 'b.avi,run,"two', 'lines"', "a.avi,,"))


@pytest.mark.parametrize(
    "header", ["a.avi,run", "path", "path;label", "path,label,path", "path,label,split,Split", "paths,label"]
)
def test_a_header_of_another_form_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(
        DataError, match=r"clips\.csv:1: the header line is .*expected the columns path,label"
    ):
        read_manifest(write(tmp_path, header, "a.avi,run"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"empty\.csv:1: the header line is ''"):
        read_manifest(tmp_path / "empty.csv")


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path)
    manifest.write_bytes("path,label\na.avi,run\nCafé.avi,walk\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"clips\.csv:3: not UTF-8"):
        read_manifest(manifest)
    manifest.write_text("path,label\na.avi,run\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"clips\.csv:1: not UTF-8"):
        read_manifest(manifest)


_WORDS = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/") | st.just(" "),
    min_size=1,
    max_size=30,
).filter(lambda word: word == word.strip())
_NAMES = _WORDS.filter(lambda name: set(name) != {"."}).map(lambda name: unicodedata.normalize("NFC", name))


@settings(max_examples=50)
@given(
    rows=st.dictionaries(
        st.lists(_NAMES, min_size=2, max_size=2).map("/".join),
        st.tuples(_WORDS, st.sampled_from([0, 1, 2])),
        min_size=1,
    )
)
def test_what_a_csv_writer_writes_comes_back(rows: dict[str, tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for path in rows:
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).touch()
        with (root / "0.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "split", "label"])
            table.writerows([path, mark, label] for path, (label, mark) in rows.items())
        manifest = read_manifest(root / "0.csv")
    assert manifest.clips == [
        (unicodedata.normalize("NFC", label), path) for path, (label, _) in rows.items()
    ]
    assert manifest.marks == {path: mark for path, (_, mark) in rows.items()}
