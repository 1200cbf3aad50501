"""Signals by which a cluster tells that a job's time is over."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SIGNALS", "Interruption"]

# SIGTERM: Slurm's scancel, kill. SIGUSR1: Slurm's --signal=USR1@SECONDS, some time before the end.
SIGNALS = tuple(name for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interruption:
    """A context in which these signals are noted in `received` instead of ending the process.

    More of them change nothing: launchers and clusters often send several. Outside the main thread, where
    Python has no signals, nothing is noted.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[str, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                self._before[name] = signal.signal(getattr(signal, name), self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(getattr(signal, name), handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
