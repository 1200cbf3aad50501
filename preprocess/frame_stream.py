"""Frames decoded ahead of their use, while the network works."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from preprocess.decode import DecodeError
from preprocess.decoder import Decoder

__all__ = ["ClipEnded", "ClipFailed", "Frame", "FrameStream"]


@dataclass(frozen=True)
class Frame:
    """One frame (size, size, 3) uint8 RGB of the clip `task`."""

    task: int
    image: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipEnded:
    """All frames of the clip `task` have come; `warning` is None unless the file ended early."""

    task: int
    warning: str | None


@dataclass(frozen=True)
class ClipFailed:
    """The clip `task` cannot be decoded; frames of it that came before are void."""

    task: int
    error: DecodeError


Event = Frame | ClipEnded | ClipFailed


class FrameStream:
    """Decodes clips in the order in which they are submitted, up to `ahead` frames in advance.

    A context manager. `waiting` clips were submitted and have not ended yet.
    """

    def __init__(self, decoder: Decoder, ahead: int) -> None:
        self.waiting = 0
        self._decoder = decoder
        self._clips: queue.SimpleQueue[tuple[int, Path] | None] = queue.SimpleQueue()
        self._events: queue.Queue[Event | Exception] = queue.Queue(ahead)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="frame stream", daemon=True)

    def __enter__(self) -> FrameStream:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._clips.put(None)
        if self.waiting:
            self._decoder.interrupt()
        while self._thread.is_alive():
            # The thread may wait for room, or for the decoder.
            with contextlib.suppress(queue.Empty):
                self._events.get_nowait()
            self._thread.join(0.01)

    def submit(self, task: int, path: str | os.PathLike[str]) -> None:
        """Have a clip decoded after those submitted before."""
        self.waiting += 1
        self._clips.put((task, Path(path)))

    def next(self, timeout: float) -> Event | None:
        """Return what comes next, None if nothing does within `timeout` seconds."""
        try:
            event = self._events.get(timeout=timeout) if timeout else self._events.get_nowait()
        except queue.Empty:
            return None
        if isinstance(event, Exception):
            raise event
        if not isinstance(event, Frame):
            self.waiting -= 1
        return event

    def _run(self) -> None:
        try:
            while not self._stopping and (clip := self._clips.get()) is not None:
                self._decode(*clip)
        except Exception as error:
            # Whatever it is, the thread that waits for frames must hear of it.
            self._events.put(error)

    def _decode(self, task: int, path: Path) -> None:
        try:
            with contextlib.closing(self._decoder.clip(path)) as frames:
                for image in frames:
                    self._events.put(Frame(task, image))
                    if self._stopping:
                        return
        except DecodeError as error:
            self._events.put(ClipFailed(task, error))
        else:
            self._events.put(ClipEnded(task, self._decoder.warning))
