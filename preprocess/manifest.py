"""Finding the clips of a data set that a table lists: a CSV manifest.

    path,label,split
    kitchen/clip 1.avi,drink,train
    kitchen/clip 2.avi,pour,test

The first line names the columns, in any order: `path`, `label` and, if wanted, `split` (train, test or
unused; or 1, 2, 0 as in HMDB51). Further columns are ignored. Paths are relative to the manifest's folder
and stay inside it. The text is UTF-8, with commas, and quotes around values that hold commas.
"""

from __future__ import annotations

import csv
import io
import os
import posixpath
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqbraid.data.splits import TEST, TRAIN, UNUSED, canonical_name
from seqbraid.errors import DataError

__all__ = ["Manifest", "read_manifest"]

_MARKS = {"train": TRAIN, "1": TRAIN, "test": TEST, "2": TEST, "unused": UNUSED, "0": UNUSED}


@dataclass(frozen=True)
class Manifest:
    """The clips that a manifest lists: `clips` (class, path) that are there, `missing` ones likewise.

    `marks` {path: 0 | 1 | 2} of both; None where the manifest has no column `split`.
    """

    clips: list[tuple[str, str]]
    missing: list[tuple[str, str]]
    marks: dict[str, int] | None


def read_manifest(path: Path) -> Manifest:
    """Read a CSV manifest and look which of its clips are there.

    Paths are given as on the disk, below the manifest's folder. Blanks around values do not count, nor do
    blank lines. Raises `DataError` naming the line for a table of another form, empty values, unknown splits,
    paths that are listed twice or lead out of the folder; and where no clip is there.
    """
    records = _records(path)
    line, columns = next(records, (1, []))
    columns = [name.lower() for name in columns]
    if any(columns.count(name) != 1 for name in ("path", "label")) or columns.count("split") > 1:
        raise DataError(
            f"{path}:{line}: the header line is {','.join(columns)[:200]!r}; expected the columns path,label "
            "and optionally split, each once, between commas"
        )
    clips: list[tuple[str, str]] = []
    missing: list[tuple[str, str]] = []
    marks: dict[str, int] = {}
    lines: dict[str, int] = {}  # where each path stands
    for line, values in records:
        if len(values) != len(columns):
            raise DataError(
                f"{path}:{line}: {len(values)} values for {len(columns)} columns; quote values with commas"
            )
        row = dict(zip(columns, values, strict=True))
        if not row["path"] or not row["label"]:
            raise DataError(f"{path}:{line}: the {'label' if row['path'] else 'path'} is empty")
        listed = posixpath.normpath(row["path"])
        first = lines.setdefault(canonical_name(listed), line)
        if first != line:
            raise DataError(f"{path}:{line}: {row['path']!r} is listed twice, first in line {first}")
        found = _find(path.parent, listed, f"{path}:{line}")
        clip = listed if found is None else found
        (missing if found is None else clips).append((canonical_name(row["label"]), clip))
        if "split" in row:
            if row["split"].lower() not in _MARKS:
                raise DataError(
                    f"{path}:{line}: the split {row['split']!r} is none of train, test, unused (or 1, 2, 0)"
                )
            marks[clip] = _MARKS[row["split"].lower()]
    if not lines:
        raise DataError(f"{path} lists no clips")
    if not clips:
        raise DataError(
            f"none of the {len(missing)} clips that {path} lists is there; first: {missing[0][1]!r}"
        )
    return Manifest(clips, missing, marks if "split" in columns else None)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Give every record that is not blank, and the line it begins in."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no manifest {path}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{_line_of(data, error.start)}: not UTF-8; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(
            f"{path}:{_line_of(data, data.index(0))}: it holds NUL bytes; save it as CSV in UTF-8"
        )
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    line = 1
    try:
        for values in reader:
            values = [value.strip() for value in values]
            if any(values):
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{line}: not CSV ({error})") from error


def _line_of(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _find(root: Path, listed: str, place: str) -> str | None:
    """Return `listed` as it is spelled on the disk below `root`, None if it is not there.

    Systems differ in the Unicode form that they write names in, so each is tried.
    """
    inside = Path(os.path.realpath(root))
    for name in dict.fromkeys((listed, *(unicodedata.normalize(form, listed) for form in ("NFC", "NFD")))):
        # Through every symbolic link; unlike Path.resolve, at peace with those that run in circles.
        real = Path(os.path.realpath(root / name))
        if name.startswith("/") or name.split("/")[0] == ".." or not real.is_relative_to(inside):
            raise DataError(
                f"{place}: {listed!r} leads out of the manifest's folder, to {real}; "
                "give paths relative to that folder, and keep the clips inside it"
            )
        if _is_file(real):
            return name
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the disk can hold is not there
        return False
