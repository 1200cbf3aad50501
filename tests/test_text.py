"""Names that stay distinct when they are shortened, and tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbraid.text import WIDTH, count, distinct_names, lines_of_table, tables_by_rows

PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
FOLDERS = st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3)


@given(
    paths=st.lists(FOLDERS, min_size=1, max_size=8, unique_by=tuple),
    most=st.integers(8, 40),
)
def test_shortened_names_stay_distinct(paths: list[list[str]], most: int) -> None:
    names = distinct_names([Path("/nowhere", *parts) for parts in paths], most)
    assert len(set(names)) == len(names) == len(paths)
    assert all(len(name) <= most and name.isprintable() for name in names)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/run", "/a/other"], ["run", "other"]),
        (["/a/x/run", "/a/y/run"], ["x/run", "y/run"]),
        (["/a/run", "/run"], ["a/run", "/run"]),
        (["/hmdb51-implicit-seed0", "/hmdb51-implicit-seed1"], ["hmdb51…-seed0", "hmdb51…-seed1"]),
        (["/seed0-" + 30 * "x", "/seed1-" + 30 * "x"], ["seed0-…xxxxxx", "seed1-…xxxxxx"]),
    ],
)
def test_names_are_as_short_as_tells_them_apart(paths: list[str], names: list[str]) -> None:
    assert distinct_names([Path(path) for path in paths], 13) == names


@given(st.lists(st.lists(st.text("ab", max_size=60), min_size=3, max_size=3), min_size=2, max_size=12))
def test_columns_are_divided_among_tables_that_fit(columns: list[list[str]]) -> None:
    columns = [["", *map(str, range(2))], *columns]
    tables = tables_by_rows(columns)
    assert all(len(line) <= WIDTH for lines in tables for line in lines)
    for row in range(3):
        words = [word for lines in tables for word in lines[row].split()]
        expected = [column[row] for column in columns[1:] if column[row]]
        assert [word for word in words if word not in ("0", "1")] == expected


def test_a_table_is_aligned() -> None:
    assert lines_of_table([["", "a"], ["long", "1.5"], ["x", "10.25"]]) == [
        "          a",
        "long    1.5",
        "x     10.25",
    ]


def test_columns_are_aligned_as_asked() -> None:
    rows = [["", "text"], ["10", "a"], ["5", "long"]]
    assert lines_of_table(rows, left=(1,)) == ["    text", "10  a", " 5  long"]
    assert lines_of_table(rows, left=()) == ["    text", "10     a", " 5  long"]


def test_a_noun_is_counted() -> None:
    assert [count(number, "rank") for number in (0, 1, 2)] == ["0 ranks", "1 rank", "2 ranks"]
