"""Frames decoded ahead of their use, while the network works."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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

    Each of the `decoders` works on a clip of its own, so the frames of several may come in turns; those of
    one clip come in order. A context manager; leaving it in the middle of a clip stops the decoders.
    `waiting` clips were submitted and have not ended yet.
    """

    def __init__(self, decoders: Sequence[Decoder], ahead: int) -> None:
        self.waiting = 0
        self._decoders = decoders
        self._clips: queue.SimpleQueue[tuple[int, Path] | None] = queue.SimpleQueue()
        self._events: queue.Queue[Event | Exception] = queue.Queue(ahead)
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(decoder,), name="frame stream", daemon=True)
            for decoder in decoders
        ]

    def __enter__(self) -> FrameStream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        in_a_clip = self.waiting > 0
        for _ in self._decoders:
            self._clips.put(None)
        while any(thread.is_alive() for thread in self._threads):
            if in_a_clip:
                # Each time, since a thread may only now begin the clip that it had taken.
                for decoder in self._decoders:
                    decoder.interrupt()
            # A thread may wait for room.
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=0.01)
        if in_a_clip:
            # What was interrupted between two clips must not meet the next one.
            for decoder in self._decoders:
                decoder.stop()

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

    def _run(self, decoder: Decoder) -> None:
        try:
            while not self._stopping and (clip := self._clips.get()) is not None:
                self._decode(decoder, *clip)
        except Exception as error:
            # Whatever it is, the thread that waits for frames must hear of it.
            self._events.put(error)

    def _decode(self, decoder: Decoder, task: int, path: Path) -> None:
        try:
            with contextlib.closing(decoder.clip(path)) as frames:
                for image in frames:
                    self._events.put(Frame(task, image))
                    if self._stopping:
                        return
        except DecodeError as error:
            self._events.put(ClipFailed(task, error))
        else:
            self._events.put(ClipEnded(task, decoder.warning))
