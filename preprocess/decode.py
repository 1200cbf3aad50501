"""Decoding: a video file to its first frames, resized to a square."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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

__all__ = ["DecodeError", "DecodedClip", "decode_clip"]

# The ranks of a job share the cores already.
cv2.setNumThreads(1)
if os.environ["OPENCV_LOG_LEVEL"] == "SILENT":
    # Again, for where somebody else imported it first.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# Above this many frames (four days at 30 a second) a container's count is garbage, not a promise.
_MOST_CREDIBLE_COUNT = 10_000_000


class DecodeError(DataError):
    """A video file of which no frame can be had."""


@dataclass(frozen=True)
class DecodedClip:
    """The first frames of a video.

    `frames` (n, size, size, 3) uint8 RGB; `declared` is the container's own count of frames, None where it
    gives none that can be believed; `warning` is None unless the file ended early.
    """

    frames: npt.NDArray[np.uint8]
    declared: int | None
    warning: str | None


def decode_clip(path: str | os.PathLike[str], frames: int, size: int) -> DecodedClip:
    """Decode at most the first `frames` frames of a video and resize each to size x size pixels.

    Raises `DecodeError` naming the path and the reason where not even one frame can be decoded.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise DecodeError(f"{path}: the file is empty")
        with path.open("rb"):
            pass
    except OSError as error:
        raise DecodeError(f"{path}: {error.strerror or error}") from error
    capture = _open(path)
    try:
        if not capture.isOpened():
            raise DecodeError(f"{path}: cannot be opened as a video")
        declared = _credible_count(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        decoded = _read(capture, frames, size)
    except cv2.error as error:
        raise DecodeError(f"{path}: {error.err or error}") from error
    finally:
        capture.release()
    if not decoded:
        raise DecodeError(f"{path}: no frame could be decoded")
    warning = None
    if declared is not None and len(decoded) < min(frames, declared):
        warning = f"{len(decoded)} of {declared} frames decoded"
    return DecodedClip(np.stack(decoded), declared, warning)


def _open(path: Path) -> cv2.VideoCapture:
    # An absolute path, so that no file name is taken for a protocol. FFmpeg by name where it is built in,
    # since OpenCV's other readers take some file names for numbered images.
    if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        return cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    return cv2.VideoCapture(str(path.absolute()))


def _credible_count(declared: float) -> int | None:
    return int(declared) if 1 <= declared <= _MOST_CREDIBLE_COUNT else None


def _read(capture: cv2.VideoCapture, frames: int, size: int) -> list[npt.NDArray[np.uint8]]:
    decoded: list[npt.NDArray[np.uint8]] = []
    while len(decoded) < frames:
        found, image = capture.read()
        if not found:
            break
        # Frame by frame: the size may change in the middle of a file.
        if image.shape[:2] != (size, size):
            shrinking = image.shape[0] >= size and image.shape[1] >= size
            method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
            image = cv2.resize(image, (size, size), interpolation=method)
        decoded.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
    return decoded
