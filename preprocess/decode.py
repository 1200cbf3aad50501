"""Decoding: a video file to its frames, one in so many, resized to a square."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError, SeqbraidError

# Read by OpenCV at its import. Its complaints about a damaged file say less than the errors raised here.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
try:
    import cv2
except ImportError as error:
    raise SeqbraidError(
        f"OpenCV cannot be imported ({str(error).splitlines()[0]}); pip install opencv-python-headless"
    ) from error

__all__ = ["DecodeError", "DecodedClip", "VideoReader", "decode_clip"]

# The ranks of a job share the cores already.
cv2.setNumThreads(1)
if os.environ["OPENCV_LOG_LEVEL"] == "SILENT":
    # Again, for where somebody else imported it first.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Above this many frames (four days at 30 a second) a container's count is garbage, not a promise.
_MOST_CREDIBLE_COUNT = 10_000_000
# Three times the pixels of 8K video. A damaged header may ask for a hundred times that.
_MOST_PIXELS = 100_000_000


class DecodeError(DataError):
    """A video file of which no frame can be had."""


class VideoReader:
    """The frames 0, `stride`, 2 `stride`, ... of a video, at most `frames` of them, each size x size pixels.

    A context manager and an iterator over (size, size, 3) uint8 RGB images. `declared` is the container's own
    count of frames, None where it gives none that can be believed; `kept` counts the frames given so far.
    Raises `DecodeError` naming the path and the reason where not even one frame can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str], frames: int, size: int, stride: int = 1) -> None:
        self.path = Path(path)
        self.kept = 0
        self._frames, self._size, self._stride = frames, size, stride
        try:
            if self.path.stat().st_size == 0:
                raise DecodeError(f"{self.path}: the file is empty")
            with self.path.open("rb"):
                pass
            self._capture = _open(self.path)
        except OSError as error:
            raise DecodeError(f"{self.path}: {error.strerror or error}") from error
        if not self._capture.isOpened():
            raise DecodeError(f"{self.path}: cannot be opened as a video")
        self.declared = _credible_count(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._capture.release()

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        width, height = (
            int(self._capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > _MOST_PIXELS:
            raise DecodeError(f"{self.path}: frames of {width} x {height} pixels are too large")
        try:
            while self.kept < self._frames and self._skip():
                found, image = self._capture.read()
                if not found:
                    break
                square = _square(image, self._size)
                self.kept += 1
                yield square
        except (cv2.error, MemoryError) as error:
            # What was decoded before is good; the warning tells that the rest is missing.
            if not self.kept:
                reason = str(getattr(error, "err", "") or error) or "not enough memory for a frame"
                raise DecodeError(f"{self.path}: {reason}") from error
        if not self.kept:
            raise DecodeError(f"{self.path}: no frame could be decoded")

    @property
    def warning(self) -> str | None:
        """None where as many frames came as the container declares and as were wanted, else a line."""
        if self.declared is None:
            return None
        expected = min(self._frames, -(-self.declared // self._stride))
        return None if self.kept >= expected else f"{self.kept} of {expected} frames decoded"

    def _skip(self) -> bool:
        """Pass the frames between the last one kept and the next; False at the end of the file."""
        between = self._stride - 1 if self.kept else 0
        return all(self._capture.grab() for _ in range(between))


@dataclass(frozen=True)
class DecodedClip:
    """A video in memory: `frames` (n, size, size, 3) uint8 RGB; the rest as `VideoReader` has it."""

    frames: npt.NDArray[np.uint8]
    declared: int | None
    warning: str | None


def decode_clip(path: str | os.PathLike[str], frames: int, size: int, stride: int = 1) -> DecodedClip:
    """Decode a clip in this process, as `VideoReader` does, into memory."""
    with VideoReader(path, frames, size, stride) as reader:
        decoded = np.stack(list(reader))
        return DecodedClip(decoded, reader.declared, reader.warning)


def _open(path: Path) -> cv2.VideoCapture:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        # OpenCV crashes on names that are not text; it gets another one to open the file by.
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder) / "video"
            link.symlink_to(path.absolute())
            return _open(link)
    # An absolute path, so that no file name is taken for a protocol. FFmpeg by name where it is built in,
    # since OpenCV's other readers take some file names for numbered images.
    if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    return cv2.VideoCapture(str(path.absolute()))


def _credible_count(declared: float) -> int | None:
    return int(declared) if 1 <= declared <= _MOST_CREDIBLE_COUNT else None


def _square(image: Any, size: int) -> npt.NDArray[np.uint8]:
    # Frame by frame: the size may change in the middle of a file.
    if image.shape[:2] != (size, size):
        shrinking = image.shape[0] >= size and image.shape[1] >= size
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        image = cv2.resize(image, (size, size), interpolation=method)
    result: npt.NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return result
