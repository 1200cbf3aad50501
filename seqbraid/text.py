"""Text for the terminal: numbers with their nouns, names that stay distinct when shortened, tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

__all__ = ["WIDTH", "count", "distinct_names", "fits", "lines_of_table", "shown", "tables_by_rows"]

WIDTH = 100
_GAP = "  "


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown(text: str, most: int) -> str:
    """Return a name of at most `most` letters, without what no font can show."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def distinct_names(paths: Sequence[Path], most: int) -> list[str]:
    """Return a name of at most `most` letters (8 or more) for each of different paths, all different.

    It is as few of a path's last parts as tell it from the others. Where it is longer, its middle is left
    out; where that makes two the same, they are numbered.
    """
    parts = [[shown(part, len(part)) for part in path.resolve().parts] for path in paths]
    count = 1
    while len({tuple(each[-count:]) for each in parts}) < len(parts) and count < max(map(len, parts)):
        count += 1
    names = ["/".join(each[-count:]).replace("//", "/") for each in parts]
    # A shortened name says most where as much of its beginning is kept as of its end.
    heads = sorted(range(most), key=lambda head: abs(2 * head - most))
    for head in heads:
        short = [_without_middle(name, head, most) for name in names]
        if len(set(short)) == len(short):
            return short
    return [f"{_without_middle(name, most // 4, most - 5)}#{number}" for number, name in enumerate(names, 1)]


def _without_middle(name: str, head: int, most: int) -> str:
    if len(name) <= most:
        return name
    tail = most - 1 - head
    return name[:head] + "…" + (name[-tail:] if tail else "")


def lines_of_table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Return the lines of a table; the columns `left` are aligned on the left, the others on the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            word.ljust(width) if place in left else word.rjust(width)
            for place, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def fits(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether a table is no wider than `WIDTH`."""
    return all(len(line) <= WIDTH for line in lines_of_table(rows))


def tables_by_rows(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return tables no wider than `WIDTH` that together have all columns; the first stands in each."""
    names, *others = columns
    tables: list[list[Sequence[str]]] = []
    for column in others:
        if tables and fits([*zip(*tables[-1], column, strict=True)]):
            tables[-1].append(column)
        else:
            tables.append([names, column])
    return [lines_of_table([*zip(*table, strict=True)]) for table in tables]
