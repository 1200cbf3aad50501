"""The confusion matrix of a run: of each true class, what fraction was taken for which."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqbraid.data.samples import evenly
from seqbraid.runs.record import RunRecord
from seqbraid.text import shown

__all__ = ["draw_confusion", "size_of_confusion"]

_COUNTED = 20  # classes whose counts have room in the cells
_CELL, _COUNTED_CELL = 0.17, 0.3  # inches
_LEAST, _MOST = 2.6, 20.0  # inches of all cells
_LONGEST_NAME = 24
_SOLVERS = {"mgrit": "MGRIT", "serial": "serial"}


def size_of_confusion(record: RunRecord) -> tuple[float, float]:
    """Return width and height in inches that the matrix of a run takes with its names and title."""
    classes = len(record.options["class_names"])
    cells = classes * (_COUNTED_CELL if classes <= _COUNTED else _CELL)
    names = 0.075 * max(len(name) for name in _names(record))
    side = min(max(cells, _LEAST), _MOST) + names
    return side + 0.8, side + 0.9


def draw_confusion(figure: Any, axis: Any, record: RunRecord, kind: str) -> None:
    """Draw the matrix of the inference by one solver, "mgrit" or "serial"."""
    counts = record.confusions[kind]
    classes = len(counts)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    few = classes <= _COUNTED
    if few:
        for row, column in np.argwhere(counts):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            size = 7 if len(text) < 4 else 5.5
            axis.text(column, row, text, color=colour, fontsize=size, ha="center", va="center")
    else:
        bar = figure.colorbar(image, ax=axis, shrink=0.4, aspect=30, pad=0.01)
        bar.ax.tick_params(labelsize=6)
        bar.set_label("fraction of the true class", fontsize=7)
    named = evenly(classes, int(_MOST / _CELL))
    names, size = _names(record), 7 if few else 6
    axis.set_xticks(named, [names[number] for number in named], rotation=90, fontsize=size)
    axis.set_yticks(named, [names[number] for number in named], fontsize=size)
    axis.tick_params(length=0)
    axis.set_xlabel("predicted class", fontsize=8)
    axis.set_ylabel("true class", fontsize=8)
    axis.set_title(_title(record, kind), fontsize=9)


def _names(record: RunRecord) -> list[str]:
    return [shown(name, _LONGEST_NAME) for name in record.options["class_names"]]


def _title(record: RunRecord, kind: str) -> str:
    """Return the title: of which epoch, and how accurate each way of inference is."""
    epoch = "" if record.evaluated_epoch is None else f" after epoch {record.evaluated_epoch}"
    accuracies = [
        f"{_SOLVERS[name]} {values['accuracy']:.4f}"
        for name, values in record.inference.items()
        if name in _SOLVERS and isinstance(values.get("accuracy"), float)
    ]
    title = f"confusion matrix{epoch}, {_SOLVERS[kind]} inference"
    return f"{title}\naccuracy: {', '.join(accuracies)}" if accuracies else title
