"""Which clips train and which test: HMDB51's split files, or a split drawn from a seed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError

__all__ = ["TEST", "TRAIN", "UNUSED", "assign_splits", "read_split_files", "stratified_split"]

UNUSED, TRAIN, TEST = 0, 1, 2

_FILE_NAME = re.compile(r"(?P<class_name>.+)_test_split(?P<split>\d+)\.txt")


def read_split_files(folder: str | os.PathLike[str], split: int) -> dict[str, dict[str, int]]:
    """Read every `<class>_test_split{split}.txt` in `folder`: {class: {file name: 0 | 1 | 2}}.

    A line is a file name, a blank and 0 (unused), 1 (train) or 2 (test); names may hold blanks. Raises
    `DataError` for a missing folder, no files of this split, and bad lines.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected HMDB51 split files (<class>_test_split{split}.txt)"
        )
    found = [(path, match) for path in sorted(folder.iterdir()) if (match := _FILE_NAME.fullmatch(path.name))]
    marks = {match["class_name"]: _read(path) for path, match in found if int(match["split"]) == split}
    if not marks:
        others = ", ".join(sorted({match["split"] for _, match in found})) or "none"
        raise DataError(f"{folder} has no <class>_test_split{split}.txt; splits found there: {others}")
    return marks


def _read(path: Path) -> dict[str, int]:
    marks: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error})") from error
    # Not splitlines: file names may hold characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        # At the last blank, since names may hold blanks themselves.
        name, _, mark = line.rstrip().rpartition(" ")
        name = name.strip()
        if not name or mark not in ("0", "1", "2"):
            raise DataError(f"{path}:{number}: {line.strip()!r} is not a file name followed by 0, 1 or 2")
        if marks.setdefault(name, int(mark)) != int(mark):
            raise DataError(f"{path}:{number}: {name!r} stands here twice, with {marks[name]} and {mark}")
    return marks


def assign_splits(
    clips: Sequence[str], marks: Mapping[str, Mapping[str, int]]
) -> tuple[list[int], list[str]]:
    """Return each clip's mark, and the names in the split files that no clip bears.

    `clips` are `<class>/<file>`; a clip that no split file names gets 0 (unused). Raises `DataError` where
    the split files leave no clip to train with.
    """
    splits = []
    for clip in clips:
        class_name, _, name = clip.partition("/")
        splits.append(marks.get(class_name, {}).get(name, UNUSED))
    if TRAIN not in splits:
        raise DataError(
            f"the split files mark none of the {len(clips)} clips for training (first: {clips[0]!r})"
        )
    present = set(clips)
    named = [f"{class_name}/{name}" for class_name, names in marks.items() for name in names]
    return splits, [clip for clip in named if clip not in present]


def stratified_split(
    labels: Sequence[int] | npt.NDArray[np.int64], test_fraction: float = 0.3, seed: int = 0
) -> npt.NDArray[np.int64]:
    """Draw a split (N,) of 1 (train) and 2 (test) with `test_fraction` of every class for testing.

    Every class with two or more clips has at least one of each; a class's draw depends on the seed, its
    label and its number of clips alone. Raises `ValueError` unless 0 < test_fraction < 1.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}; expected between 0 and 1")
    labels = np.asarray(labels, dtype=np.int64)
    splits = np.full(len(labels), TRAIN, dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        tests = round(test_fraction * len(members))
        if len(members) > 1:
            tests = min(max(tests, 1), len(members) - 1)
        order = np.random.default_rng([seed, int(label)]).permutation(members)
        splits[order[: min(tests, len(members) - 1)]] = TEST
    return splits
