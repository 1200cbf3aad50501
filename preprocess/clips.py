"""Finding the clips of a data set: `<root>/<class>/<clip>`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from seqbraid.errors import DataError

__all__ = ["VIDEO_SUFFIXES", "LabelledClips", "find_clips"]

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v"})


@dataclass(frozen=True)
class LabelledClips:
    """The clips below `root`: N paths `<class>/<file>`, sorted, and the index of each one's class."""

    root: Path
    class_names: list[str]
    clips: list[str]
    labels: list[int]


def find_clips(root: str | os.PathLike[str]) -> LabelledClips:
    """List the video files in the folders of `root`; each folder that has any is a class.

    Raises `DataError` where `root` is missing, has no such folder, or only one.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected {root}/<class>/<clip>.avi (or .mp4, ...)")
    by_class: dict[str, list[str]] = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        names = sorted(entry.name for entry in folder.iterdir() if _is_video(entry))
        if names:
            by_class[folder.name] = names
    if len(by_class) < 2:
        found = (
            f"only one class folder with videos ({next(iter(by_class))})" if by_class else "no class folders"
        )
        raise DataError(f"{root} has {found}; expected two or more folders {root}/<class>/ with video files")
    clips = [f"{class_name}/{name}" for class_name, names in by_class.items() for name in names]
    labels = [label for label, names in enumerate(by_class.values()) for _ in names]
    return LabelledClips(root, list(by_class), clips, labels)


def _is_video(path: Path) -> bool:
    # Names with a leading dot are the leavings of file managers and of unfinished copies.
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".") and path.is_file()
