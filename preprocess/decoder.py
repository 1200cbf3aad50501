"""The rank's side of decoding: frames come from a process of their own, which may fail without harm."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from preprocess.decode import DecodeError
from preprocess.decoder_process import END, FAILED, FRAME, HEADER

__all__ = ["Decoder"]

_STALL_S = 60.0
_END_S = 5.0
# More than a frame of 4K video takes on one slow core.
_PASSED_OVER_S = 0.1


class Decoder:
    """Decodes clips one after the other in a process of its own; a context manager.

    The frames are those of `preprocess.decode.VideoReader`. A file that crashes the process, or of which no
    frame comes within `stall_s` seconds (and 0.1 for each that is passed over), raises `DecodeError` like any
    other that cannot be decoded.
    """

    def __init__(self, frames: int, size: int, stride: int = 1, stall_s: float = _STALL_S) -> None:
        self._frames, self._size, self._stride = frames, size, stride
        self._stall_s = stall_s + _PASSED_OVER_S * (stride - 1)
        self._process: subprocess.Popen[bytes] | None = None
        self.warning: str | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, in the middle of a clip too; the next clip starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        # It takes longer only where the system itself is stuck, say in a read from a server that is gone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            # A request that never left is still in the pipe's buffer, and cannot leave now either.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def interrupt(self) -> None:
        """Make a `clip` that another thread is in end with an error."""
        process = self._process
        if process is not None:
            process.kill()

    def clip(self, path: str | os.PathLike[str]) -> Generator[npt.NDArray[np.uint8], None, None]:
        """Give the frames (size, size, 3) of one clip as they are decoded; `warning` follows at the end.

        Raises `DecodeError` naming the path and the reason where no frame, or not the rest, can be had.
        """
        self.warning = None
        finished = False
        try:
            self._request(path)
            while True:
                kind, content = self._message()
                if kind != FRAME:
                    break
                yield np.frombuffer(content, dtype=np.uint8).reshape(self._size, self._size, 3)
            finished = True
            if kind == FAILED:
                raise DecodeError(f"{path}: {content.decode()}")
            assert kind == END
            self.warning = content.decode() or None
        except _LostError as error:
            raise DecodeError(f"{path}: {error}") from None
        finally:
            if not finished:
                self.stop()

    def _request(self, path: str | os.PathLike[str]) -> None:
        if self._process is not None and self._process.poll() is not None:
            self.stop()  # it died between two clips: this one is not to blame
        process = self._start() if self._process is None else self._process
        assert process.stdin is not None
        request = {
            # File names need not be text.
            "path": os.fsencode(Path(path).absolute()).hex(),
            "frames": self._frames,
            "size": self._size,
            "stride": self._stride,
        }
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise _LostError(self._what_happened()) from None

    def _start(self) -> subprocess.Popen[bytes]:
        home = str(Path(__file__).resolve().parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "preprocess.decoder_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Python looks for modules in the current folder first, and users may have a preprocess.py there.
            cwd=home,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")])),
                # It decodes on one core; the rank's threads have the others.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        return self._process

    def _message(self) -> tuple[bytes, bytes]:
        kind, length = HEADER.unpack(self._read(HEADER.size))
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self._stall_s
        parts = bytearray()
        descriptor = process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(parts) < count:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise _LostError(f"no frame was decoded within {self._stall_s:.0f} s")
                # From the descriptor itself: a buffered reader would hide what has arrived from `select`.
                part = os.read(descriptor, count - len(parts))
                if not part:
                    raise _LostError(self._what_happened())
                parts += part
        return bytes(parts)

    def _what_happened(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return "the decoder closed its output"
        if code < 0:
            return f"the decoder crashed on it ({signal.Signals(-code).name})"
        return f"the decoder ended with exit code {code}"


class _LostError(Exception):
    """The process is dead, or does not answer."""
