"""Finding the labelled clips of a data set and how they are divided: class folders or a CSV manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.manifest import read_manifest
from seqbraid.data.splits import (
    TEST,
    TRAIN,
    canonical_name,
    match_splits,
    random_split,
    read_splits,
    stratified_split,
)
from seqbraid.errors import DataError, OptionsError
from seqbraid.options.extraction import SUBSETS, SplitOptions

__all__ = ["SUBSETS", "VIDEO_SUFFIXES", "LabelledClips", "SplitOptions", "labelled_clips"]

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v"})


@dataclass(frozen=True)
class LabelledClips:
    """N clips: paths below `root` with "/", by class and name; `labels` are indices into `class_names`.

    `splits` {name: N marks}, 1 train, 2 test, 0 unused, of which `split` is the default one. `missing`: what
    the split files or the manifest name and is not there; `unlisted`: clips that no split file names, all
    marked 0. Paths are spelled as on the disk (bytes that are not UTF-8 as surrogates), class names in NFC.
    """

    root: Path
    class_names: list[str]
    clips: list[str]
    labels: list[int]
    splits: dict[str, list[int]]
    split: str
    missing: list[str]
    unlisted: list[str]


def labelled_clips(source: str | os.PathLike[str], options: SplitOptions) -> LabelledClips:
    """Find the clips of `source`, a folder `<class>/<clip>` or a CSV manifest, with their labels and splits.

    The result does not depend on the order in which the disk lists files. Raises `DataError` where there are
    fewer than two classes, class folders and split files do not belong together, or the default split has
    nothing to train or to test with; `OptionsError` for classes and splits that are not there, and draws that
    leave a class nothing to train with.
    """
    source = Path(source)
    if source.suffix.lower() == ".csv" and not source.is_dir():
        root, manifest = source.parent, read_manifest(source)
        clips, missing, marks = manifest.clips, manifest.missing, manifest.marks
    else:
        root, clips, missing, marks = source, _class_folders(source), [], None
    if marks is not None and options.splits is not None:
        raise OptionsError(f"{source} has a column split; leave out either that or `splits={options.splits}`")
    _require_two_classes(source, clips)
    if options.classes is not None:
        chosen = _chosen(source, clips, options.classes)
        clips = [(class_name, clip) for class_name, clip in clips if class_name in chosen]
        missing = [(class_name, clip) for class_name, clip in missing if class_name in chosen]
    # In the order of canonical names, so that labels and draws are the same on every system.
    clips = sorted(clips, key=lambda item: (item[0], canonical_name(item[1]), item[1]))
    class_names = sorted({class_name for class_name, _ in clips})
    index = {class_name: label for label, class_name in enumerate(class_names)}
    labels = [index[class_name] for class_name, _ in clips]
    names = [clip for _, clip in clips]
    absent, unlisted = sorted(clip for _, clip in missing), list[str]()
    if marks is not None:
        splits = {"manifest": [marks[clip] for clip in names]}
    elif options.splits is not None:
        splits, unmatched, unlisted = _splits_of_files(source, clips, options)
        absent = list(dict.fromkeys([*absent, *unmatched]))
    else:
        splits = {"drawn": _draw(class_names, labels, options)}
    split = next(iter(splits)) if options.split is None else options.split
    _require_train_and_test(splits, split, names, options)
    return LabelledClips(root, class_names, names, labels, splits, split, absent, unlisted)


def _class_folders(root: Path) -> list[tuple[str, str]]:
    """Return (class, path) of every video file `<class>/<file>` below `root`, in no order."""
    if root.is_file():
        raise DataError(
            f"{root} is a file of no known kind; expected a folder <class>/<clip>, a .csv manifest, or "
            "sensor data (a .zip or .npz file, or a folder of .npy files)"
        )
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder; expected {root}/<class>/<clip>.avi (or .mp4, ...), or a .csv manifest"
        )
    return [
        (canonical_name(folder.name), f"{folder.name}/{entry.name}")
        for folder in root.iterdir()
        if folder.is_dir() and not folder.name.startswith(".")
        for entry in folder.iterdir()
        if _is_video(entry)
    ]


def _is_video(path: Path) -> bool:
    # Names with a leading dot are the leavings of file managers and of unfinished copies.
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _require_two_classes(source: Path, clips: Sequence[tuple[str, str]]) -> None:
    names = {class_name for class_name, _ in clips}
    if len(names) >= 2:
        return
    if not source.is_dir():
        raise DataError(f"{source} has clips of only one class ({min(names)}); expected two or more")
    found = f"only one class folder with videos ({min(names)})" if names else "no class folders"
    if not names and any(_is_video(entry) for entry in source.iterdir()):
        found = "videos but no class folders (is it a class itself? then name the folder above)"
    raise DataError(f"{source} has {found}; expected two or more folders {source}/<class>/ with video files")


def _chosen(source: Path, clips: Sequence[tuple[str, str]], classes: Collection[str]) -> set[str]:
    there = {class_name for class_name, _ in clips}
    chosen = {canonical_name(class_name) for class_name in classes}
    if chosen - there:
        raise OptionsError(
            f"{source} has no clips of the classes {', '.join(sorted(chosen - there))}; "
            f"it has {', '.join(sorted(there))}"
        )
    if len(chosen) < 2:
        raise OptionsError(f"classes chosen: {', '.join(chosen) or 'none'}; expected two or more")
    return chosen


def _splits_of_files(
    source: Path, clips: Sequence[tuple[str, str]], options: SplitOptions
) -> tuple[dict[str, list[int]], list[str], list[str]]:
    assert options.splits is not None
    chosen = None if options.classes is None else {canonical_name(name) for name in options.classes}
    split_files = read_splits(options.splits, chosen)
    strangers = {class_name for class_name, _ in clips} - next(iter(split_files.values())).keys()
    if strangers:
        raise DataError(
            f"{options.splits} has no split files of the classes {', '.join(sorted(strangers))} of {source}; "
            "add them, or name the classes to take as `classes`"
        )
    return match_splits(split_files, clips)


def _draw(class_names: Sequence[str], labels: Sequence[int], options: SplitOptions) -> list[int]:
    if options.draw == "stratified":
        drawn: list[int] = stratified_split(labels, options.test_fraction, options.seed).tolist()
        return drawn
    if options.draw != "random":
        raise OptionsError(f"draw is {options.draw!r}; expected 'stratified' or 'random'")
    drawn = random_split(len(labels), options.test_fraction, options.seed).tolist()
    trained = Counter(label for label, mark in zip(labels, drawn, strict=True) if mark == TRAIN)
    without = [name for label, name in enumerate(class_names) if not trained[label]]
    if without:
        raise OptionsError(
            f"the random draw with seed {options.seed} leaves {', '.join(without)} no clip to train with; "
            "take another `seed`, or `draw=stratified`"
        )
    return drawn


def _require_train_and_test(
    splits: Mapping[str, Sequence[int]], split: str, clips: Sequence[str], options: SplitOptions
) -> None:
    if split not in splits:
        raise OptionsError(f"there is no split {split!r}; there is {', '.join(splits)}")
    name = f"split {split!r}" if options.splits is None else f"split {split} of {options.splits}"
    for mark, purpose in ((TRAIN, "training"), (TEST, "testing")):
        if mark not in splits[split]:
            raise DataError(
                f"{name} marks none of the {len(clips)} clips for {purpose} (first: {clips[0]!r})"
            )
