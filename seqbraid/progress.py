"""One progress bar for a whole job, drawn by rank 0 alone."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


def progress_bar(total: int, description: str, unit: str, rank: int = 0) -> Any:
    """Return a tqdm bar over `total` units on standard error; silent on every rank but 0.

    In a log file, where a bar cannot be redrawn, it is refreshed every ten seconds only.
    """
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=rank != 0,
        mininterval=interval,
        maxinterval=2 * interval,
        dynamic_ncols=True,
        leave=False,
    )
