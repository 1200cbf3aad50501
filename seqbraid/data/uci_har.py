"""UCI HAR in its official layout: windows of six activities, from the folder or straight from the zip.

Anguita, Ghio, Oneto, Parra, Reyes-Ortiz: A Public Domain Dataset for Human Activity Recognition Using
Smartphones, ESANN 2013. 7352 training and 2947 test windows of 128 steps (2.56 s at 50 Hz), 30 subjects.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from seqbraid.data.arrays import LARGEST, ArrayPart, LabelledArrays
from seqbraid.errors import DataError

__all__ = ["CHANNELS", "STEPS", "is_uci_har", "read_uci_har"]

STEPS = 128
CHANNELS = tuple(
    f"{signal}_{axis}" for signal in ("body_acc", "body_gyro", "total_acc") for axis in ("x", "y", "z")
)

_FOLDER = "UCI HAR Dataset"
_ACTIVITIES = "activity_labels.txt"
_LARGEST_MEMBER = 2**30  # bytes; the whole data set has a quarter of it

# read(name) -> the content of one file, by its name below the folder that holds activity_labels.txt
_Read = Callable[[str], bytes]


def is_uci_har(path: Path) -> bool:
    """Return whether `path` looks like UCI HAR: its folder, that folder's parent, or a zip as downloaded."""
    if path.is_dir():
        return _root_folder(path) is not None
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _root_in_zip(archive) is not None or _inner_zip(archive) is not None
    except zipfile.BadZipFile:
        return False


def read_uci_har(path: Path) -> LabelledArrays:
    """Read UCI HAR: x (N, 128, 9) float32, activities as labels 0, 1, ..., subjects as whole numbers.

    The nine channels are body_acc x, y, z (without gravity, in g), body_gyro x, y, z (rad/s) and total_acc
    x, y, z (g). `path` is the folder `UCI HAR Dataset`, its parent, or the zip as it is downloaded, which is
    not unpacked to disk. Raises `DataError` naming the file and line that is missing or wrong.
    """
    with _open_layout(path) as (place, read):
        numbers, names = _activities(f"{place}{_ACTIVITIES}", _lines(read(_ACTIVITIES)))
        train, test = (_part(place, read, name, numbers) for name in ("train", "test"))
    options = {"source": "UCI HAR", "features": len(CHANNELS), "channels": list(CHANNELS)}
    return LabelledArrays(train, test, names, options)


@contextlib.contextmanager
def _open_layout(path: Path) -> Iterator[tuple[str, _Read]]:
    """Give what errors put before a file's name, and the function that reads one."""
    if path.is_dir():
        folder = _root_folder(path)
        if folder is None:
            raise _not_uci_har(path)
        yield f"{folder}/", lambda name: _read_file(folder, name)
        return
    try:
        with zipfile.ZipFile(path) as outer, _inner_archive(path, outer) as archive:
            root = _root_in_zip(archive)
            if root is None:
                raise _not_uci_har(path)
            yield f"{path}: {root}", lambda name: _read_member(path, archive, root + name)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected {_FOLDER}, a folder or a zip") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no zip file, or is cut off ({error}); download it again") from error


def _root_folder(path: Path) -> Path | None:
    return next((root for root in (path, path / _FOLDER) if (root / _ACTIVITIES).is_file()), None)


def _root_in_zip(archive: zipfile.ZipFile) -> str | None:
    """Return what stands before the names of the layout's files; `__MACOSX` holds a Mac's copy of junk."""
    names = set(archive.namelist())
    return next((root for root in ("", f"{_FOLDER}/") if root + _ACTIVITIES in names), None)


def _inner_zip(archive: zipfile.ZipFile) -> str | None:
    names = (name for name in archive.namelist() if not name.startswith("__MACOSX/"))
    return next((name for name in names if PurePosixPath(name).name == f"{_FOLDER}.zip"), None)


@contextlib.contextmanager
def _inner_archive(path: Path, outer: zipfile.ZipFile) -> Iterator[zipfile.ZipFile]:
    """Give the zip that holds the layout: `outer`, or the one inside it, as the UCI site packs it today."""
    inner = _inner_zip(outer) if _root_in_zip(outer) is None else None
    if inner is None:
        yield outer
        return
    with zipfile.ZipFile(io.BytesIO(_read_member(path, outer, inner))) as archive:
        yield archive


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise _lacks(str(folder), name) from None


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        size = archive.getinfo(name).file_size
        # No more than this is unpacked, whatever the compressed data would give.
        if size > _LARGEST_MEMBER:
            raise DataError(
                f"{path}: {name} would unpack to {size / 2**30:.1f} GB, and no file of UCI HAR has one; "
                "download it again"
            )
        return archive.read(name)
    except KeyError:
        raise _lacks(str(path), name) from None
    # RuntimeError: encrypted, or compressed in a way that Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path}: {name} cannot be read ({error}); download it again") from error


def _not_uci_har(path: Path) -> DataError:
    return DataError(f"{path} holds no {_ACTIVITIES}; expected {_FOLDER}, the folder or the zip")


def _lacks(place: str, name: str) -> DataError:
    return DataError(f"{place} lacks {name}; unpack or download {_FOLDER} again, with all its files")


def _lines(content: bytes) -> list[str]:
    return content.decode("ascii", "replace").rstrip().splitlines()


def _activities(name: str, lines: list[str]) -> tuple[list[int], list[str]]:
    """Return the activities' numbers, rising, and their names."""
    found: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != 2 or not words[0].isdecimal() or int(words[0]) in found:
            raise DataError(
                f"{name}: line {number} is {line[:40]!r}; expected a new number and a name, as in '1 WALKING'"
            )
        found[int(words[0])] = words[1]
    if len(found) < 2:
        raise DataError(f"{name} names {len(found)} activities; a classifier needs at least two")
    return sorted(found), [found[number] for number in sorted(found)]


def _part(place: str, read: _Read, part: str, activities: list[int]) -> ArrayPart:
    label_file, subject_file = f"{part}/y_{part}.txt", f"{part}/subject_{part}.txt"
    labels = _whole_numbers(place + label_file, _lines(read(label_file)))
    unknown = np.flatnonzero(~np.isin(labels, activities))
    if len(unknown):
        line = unknown[0]
        raise DataError(
            f"{place}{label_file}: line {line + 1} holds {labels[line]}; {_ACTIVITIES} has "
            f"{', '.join(map(str, activities))}"
        )
    if not len(labels):
        raise DataError(f"{place}{label_file} is empty; download {_FOLDER} again")
    subjects = _whole_numbers(place + subject_file, _lines(read(subject_file)))
    _require_as_many(place, subject_file, len(subjects), label_file, len(labels))
    x = np.empty((len(labels), STEPS, len(CHANNELS)), dtype=np.float32)
    for channel, signal in enumerate(CHANNELS):
        signal_file = f"{part}/Inertial Signals/{signal}_{part}.txt"
        lines = _lines(read(signal_file))
        _require_as_many(place, signal_file, len(lines), label_file, len(labels))
        x[:, :, channel] = _windows(place + signal_file, lines)
    return ArrayPart(
        name=f"{place}{part}/Inertial Signals",
        x=x,
        labels=np.searchsorted(activities, labels).astype(np.int64),
        lengths=np.full(len(x), STEPS, dtype=np.int64),
        subjects=subjects,
    )


def _require_as_many(place: str, name: str, lines: int, label_file: str, labels: int) -> None:
    if lines != labels:
        raise DataError(f"{place}{name} has {lines} lines, but {label_file} has {labels}; expected as many")


def _whole_numbers(name: str, lines: list[str]) -> npt.NDArray[np.int64]:
    for number, line in enumerate(lines, 1):
        if not line.strip().isdecimal() or len(line.strip()) > 9:
            raise DataError(f"{name}: line {number} is {line[:40]!r}; expected one whole number")
    return np.array([int(line) for line in lines], dtype=np.int64)


def _windows(name: str, lines: list[str]) -> npt.NDArray[np.float64]:
    """Return the windows (N, 128), one a line."""
    try:
        values: npt.NDArray[np.float64] = np.loadtxt(lines, ndmin=2, comments=None)
    except ValueError as error:
        raise _wrong_line(name, lines) from error
    # An empty line is none to loadtxt. The comparison is False for nan.
    if values.shape != (len(lines), STEPS) or not (np.abs(values) <= LARGEST).all():
        raise _wrong_line(name, lines)
    return values


def _wrong_line(name: str, lines: list[str]) -> DataError:
    """Return the error that names the first line that is wrong."""
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != STEPS:
            return DataError(f"{name}: line {number} holds {len(words)} numbers; expected {STEPS}")
        for word in words:
            if not _is_value(word):
                return DataError(f"{name}: line {number} holds {word[:40]!r}; expected numbers up to 1e30")
    return DataError(f"{name} cannot be read as lines of {STEPS} numbers")


def _is_value(word: str) -> bool:
    try:
        return abs(float(word)) <= LARGEST
    except ValueError:
        return False
