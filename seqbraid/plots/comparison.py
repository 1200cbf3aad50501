"""Learning curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqbraid.plots.figure import finish, pyplot, save_figure
from seqbraid.runs.record import RunRecord

__all__ = ["draw_comparison"]

_LABELS = {
    "epochs": "epoch",
    "work": "work: passes over the full training part",
    "seconds": "seconds of training",
}
_PANELS = {"test_accuracy": "test accuracy", "train_loss": "training loss"}
_STYLES = ("-", "--", ":", "-.")  # a style for each ten runs, which have a colour each
_SPACED = 60  # epochs of which each has room for a marker
_LINE = 0.19  # inches of a line of the legend


def draw_comparison(records: Sequence[RunRecord], names: Sequence[str], against: str, path: Path) -> None:
    """Draw test accuracy and training loss over "epochs", "work" or "seconds", a curve a run."""
    columns = max(1, min(len(names), 120 // (max(map(len, names)) + 6)))
    height = 4.0 + _LINE * -(-len(names) // columns)
    # Names of folders are no formulas.
    with pyplot().rc_context({"text.parse_math": False}):
        figure, axes = pyplot().subplots(1, 2, figsize=(11, height), layout="constrained")
        for axis, (metric, title) in zip(axes, _PANELS.items(), strict=True):
            for number, record in enumerate(records):
                axis.plot(
                    _abscissae(record, against),
                    record.series(metric),
                    _STYLES[number // 10 % len(_STYLES)],
                    color=f"C{number % 10}",
                    marker="." if len(record.epochs) <= _SPACED else "",
                )
            axis.set_title(title, fontsize=10)
            axis.set_xlabel(_LABELS[against], fontsize=8)
            axis.tick_params(labelsize=7)
            if against == "epochs":
                axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            finish(axis)
        # Given apart from the curves, names with an underscore in front are shown too.
        figure.legend(
            axes[0].lines, names, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
        )
        save_figure(figure, path)


def _abscissae(record: RunRecord, against: str) -> npt.NDArray[np.float64]:
    if against == "epochs":
        return record.epoch_numbers
    if against == "work":
        return record.work
    return np.cumsum(np.nan_to_num(record.series("train_seconds")))
