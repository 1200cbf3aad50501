"""One progress bar for a whole job, drawn by rank 0 alone."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]

_LOG_INTERVAL_S = 10.0
_LOG_FORMAT = "{desc}: {n_fmt}/{total_fmt} {unit}s, {rate_fmt}, {remaining} left{postfix}"


def progress_bar(total: int, description: str, unit: str, rank: int = 0) -> Any:
    """Return a tqdm bar over `total` units on standard error; silent on every rank but 0.

    In a log file, where a bar cannot be redrawn, it is a line every ten seconds instead.
    """
    if rank == 0 and not sys.stderr.isatty():
        return _LogLines(total, description, unit)
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=rank != 0,
        mininterval=0.2,
        dynamic_ncols=True,
        leave=False,
    )


class _LogLines:
    """What is used of tqdm here, for a log file: nothing at first, then a line every ten seconds."""

    def __init__(self, total: int, description: str, unit: str) -> None:
        self.n = 0
        self._total, self._description, self._unit = total, description, unit
        self._postfix = ""
        self._start = self._told = time.monotonic()

    def __enter__(self) -> _LogLines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        """Count `count` more units as done."""
        self.n += count
        now = time.monotonic()
        if count and now - self._told >= _LOG_INTERVAL_S:
            self._told = now
            line = tqdm.format_meter(
                self.n,
                self._total,
                now - self._start,
                prefix=self._description,
                unit=self._unit,
                postfix=self._postfix,
                bar_format=_LOG_FORMAT,
            )
            print(line, file=sys.stderr, flush=True)

    def set_postfix(self, refresh: bool = True, **values: str) -> None:
        """Show these values behind the next line."""
        self._postfix = ", ".join(f"{name} {value}" for name, value in values.items())
