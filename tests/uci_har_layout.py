"""Windows laid out as UCI HAR is downloaded: a folder of text files, or a zip of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

ACTIVITIES = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
SIGNALS = ("body_acc", "body_gyro", "total_acc")


class Windows(NamedTuple):
    """x (N, 128, 9), y (N,) 0 to 5, subjects (N,)."""

    x: np.ndarray
    y: np.ndarray
    subjects: np.ndarray


def random_windows(count: int, seed: int) -> Windows:
    """Return windows whose values have few digits, so that the text holds them exactly."""
    random = np.random.default_rng(seed)
    x = random.integers(-2000, 2000, (count, 128, 9)) / np.float32(1000)
    return Windows(x.astype(np.float32), random.integers(0, 6, count), random.integers(1, 31, count))


def write_uci_har(parent: Path, train: Windows, test: Windows) -> Path:
    """Write `parent`/UCI HAR Dataset with the files that are read, and some that are not; return it."""
    root = parent / "UCI HAR Dataset"
    (root / "train" / "Inertial Signals").mkdir(parents=True)
    (root / "test" / "Inertial Signals").mkdir(parents=True)
    lines = [f"{number} {name}" for number, name in enumerate(ACTIVITIES, 1)]
    (root / "activity_labels.txt").write_text("\n".join(lines) + "\n")
    (root / "README.txt").write_text("Human Activity Recognition Using Smartphones Dataset\n")
    for part, windows in (("train", train), ("test", test)):
        np.savetxt(root / part / f"y_{part}.txt", windows.y + 1, fmt="%d")
        np.savetxt(root / part / f"subject_{part}.txt", windows.subjects, fmt="%d")
        for channel in range(9):
            name = f"{SIGNALS[channel // 3]}_{'xyz'[channel % 3]}_{part}.txt"
            path = root / part / "Inertial Signals" / name
            np.savetxt(path, windows.x[:, :, channel], fmt="%16.7e", delimiter="")
    return root


def zip_uci_har(root: Path, target: Path, nested: bool = False) -> Path:
    """Pack the folder as the UCI site does: a Mac's zip, since 2023 (`nested`) within another zip."""
    inner = target.with_name("UCI HAR Dataset.zip") if nested else target
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("UCI HAR Dataset/", "")
        archive.writestr("__MACOSX/UCI HAR Dataset/._activity_labels.txt", b"\0\5\26\7")
        for path in sorted(root.rglob("*.txt")):
            archive.write(path, f"UCI HAR Dataset/{path.relative_to(root)}")
    if nested:
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("__MACOSX/._UCI HAR Dataset.zip", b"\0\5\26\7")
            archive.write(inner, inner.name)
            archive.writestr("UCI HAR Dataset.names", "=====\n")
        inner.unlink()
    return target
