"""Which clips train and which test: HMDB51's split files, or a split drawn from a seed."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError, OptionsError

__all__ = [
    "TEST",
    "TRAIN",
    "UNUSED",
    "SplitFiles",
    "canonical_name",
    "match_splits",
    "random_split",
    "read_splits",
    "stratified_split",
]

UNUSED, TRAIN, TEST = 0, 1, 2

# {split: {class: {file name: mark}}}, classes and file names in their canonical form.
SplitFiles = Mapping[str, Mapping[str, Mapping[str, int]]]

# Not those with a leading dot: macOS keeps a binary ._NAME beside each file on foreign disks.
_FILE_NAME = re.compile(r"(?P<class_name>[^.].*)_test_split(?P<split>[0-9]+)\.txt", re.DOTALL)
# The mark is what follows the last blank, since names may hold blanks themselves.
_LINE = re.compile(r"(?P<name>[^\r]*[^ \t\r])[ \t]+(?P<mark>[012])[ \t\r]*")


def canonical_name(name: str) -> str:
    """Return the form in which file and class names are compared, whatever system they were unpacked on.

    That is Unicode NFC (macOS writes names decomposed), with names that are not UTF-8 on the disk, which
    Python gives with surrogates, read as Latin-1.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        name = name.encode(errors="surrogateescape").decode("latin-1")
    return unicodedata.normalize("NFC", name)


def read_splits(folder: str | os.PathLike[str], classes: Collection[str] | None = None) -> SplitFiles:
    """Read every `<class>_test_split<N>.txt` in `folder`: {"N": {class: {file name: 0 | 1 | 2}}}, N rising.

    A line is a file name, a blank and 0 (unused), 1 (train) or 2 (test); names may hold blanks. Of
    `classes` only, in their canonical form, if given. Raises `DataError` for a missing folder, no split
    files, a class without a file for one of the splits, and bad lines.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected HMDB51 split files (<class>_test_split1.txt)")
    paths: dict[tuple[int, str], Path] = {}
    for path in sorted(folder.iterdir()):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            continue
        key = int(match["split"]), canonical_name(match["class_name"])
        if classes is None or key[1] in classes:
            other = paths.setdefault(key, path)
            if other != path:
                raise DataError(f"{other} and {path} are the same class and split; remove one")
    if not paths:
        wanted = "" if classes is None else f" of {', '.join(sorted(classes))}"
        raise DataError(f"{folder} has no split files{wanted} (<class>_test_split1.txt)")
    splits = sorted({split for split, _ in paths})
    class_names = sorted({class_name for _, class_name in paths})
    lacking = [
        f"{class_name}_test_split{split}.txt"
        for class_name in class_names
        for split in splits
        if (split, class_name) not in paths
    ]
    if lacking:
        found = ", ".join(map(str, splits))
        raise DataError(f"{folder} has no {', '.join(lacking)}; splits found there: {found}")
    return {
        str(split): {class_name: _read(paths[split, class_name]) for class_name in class_names}
        for split in splits
    }


def _read(path: Path) -> dict[str, int]:
    data = path.read_bytes()
    if b"\0" in data:
        raise DataError(f"{path}: not a text file in UTF-8 (it holds NUL bytes)")
    marks: dict[str, int] = {}
    # Not splitlines: file names may hold characters that it takes for line ends.
    for number, line in enumerate(data.decode("utf-8-sig", "surrogateescape").split("\n"), start=1):
        if not line.strip(" \t\r"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{path}:{number}: {line[:200]!r} is not a file name followed by 0, 1 or 2")
        name, mark = canonical_name(match["name"]), int(match["mark"])
        if marks.setdefault(name, mark) != mark:
            raise DataError(f"{path}:{number}: {name!r} stands here twice, with {marks[name]} and {mark}")
    return marks


def match_splits(
    split_files: SplitFiles, clips: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[int]], list[str], list[str]]:
    """Return each split's marks for the N `clips` (class, path): ({split: N marks}, missing, unlisted).

    A clip is known by its class and the last part of its path. `missing` are the clips `<class>/<name>` that
    the split files name and `clips` lacks, sorted; `unlisted` the paths that no split file names, marked 0.
    Raises `DataError` where two clips go by one name.
    """
    named = {
        (class_name, name)
        for classes in split_files.values()
        for class_name, names in classes.items()
        for name in names
    }
    found: dict[tuple[str, str], str] = {}
    unlisted = []
    keys = [
        (canonical_name(class_name), canonical_name(clip.rpartition("/")[2])) for class_name, clip in clips
    ]
    for key, (_, clip) in zip(keys, clips, strict=True):
        if key not in named:
            unlisted.append(clip)
        elif found.setdefault(key, clip) != clip:
            raise DataError(
                f"the split files name {'/'.join(key)} once, but {found[key]} and {clip} are there"
            )
    splits = {
        split: [classes.get(class_name, {}).get(name, UNUSED) for class_name, name in keys]
        for split, classes in split_files.items()
    }
    return splits, ["/".join(key) for key in sorted(named - found.keys())], unlisted


def stratified_split(
    labels: Sequence[int] | npt.NDArray[np.int64], test_fraction: float = 0.3, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Draw a split (N,) of 1 (train) and 2 (test) with `test_fraction` of every class for testing.

    Every class with two or more clips has at least one of each; a class's draw depends on the seed, its
    label and its number of clips alone. Raises `OptionsError` unless 0 < test_fraction < 1.
    """
    labels = np.asarray(labels, dtype=np.int64)
    splits = np.full(len(labels), TRAIN, dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        splits[order[: _test_count(len(members), test_fraction)]] = TEST
    return splits


def random_split(count: int, test_fraction: float = 0.1, seed: int = 0) -> npt.NDArray[np.int64]:
    """Draw a split (count,) of 1 (train) and 2 (test) with `test_fraction` of all clips for testing.

    Two or more clips have at least one of each. Raises `OptionsError` unless 0 < test_fraction < 1.
    """
    splits = np.full(count, TRAIN, dtype=np.int64)
    splits[np.random.default_rng(seed).permutation(count)[: _test_count(count, test_fraction)]] = TEST
    return splits


def _test_count(count: int, test_fraction: float) -> int:
    if not 0 < test_fraction < 1:
        raise OptionsError(f"test_fraction is {test_fraction}; expected between 0 and 1")
    return min(max(round(test_fraction * count), 1), count - 1) if count > 1 else 0
