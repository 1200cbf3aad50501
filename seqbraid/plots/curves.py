"""The picture of a run: its epochs from left to right in several panels, beside its confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError
from seqbraid.plots.confusion import draw_confusion, size_of_confusion
from seqbraid.plots.figure import finish, legend_above, pyplot, save_figure
from seqbraid.runs.record import KINDS_OF_SECONDS, RunRecord, solver_words
from seqbraid.text import count, shown

__all__ = ["draw_run", "seconds_of_epochs", "title_of_run"]

Values = npt.NDArray[np.float64]
Panel = Callable[[Any], None]

_PARTS = {"train": "C0", "test": "C1", "validation": "C2"}
_SECONDS = {
    "relaxation": "C0",
    "coarse solve": "C1",
    "communication": "C3",
    "data": "C2",
    "other": "0.6",
    "training": "C0",
    "test": "0.85",
}
_WIDTH = 5.2  # inches of a panel
_HEIGHTS = {1: 2.8, 2: 3.2}  # inches of a panel, by the panels side by side
_LARGE = 9.5  # inches of a confusion matrix, beside which the panels stand in one column
_PAD = 0.1  # inches around a panel
_TITLE = 100  # letters a line
_SPACED = 60  # epochs of which each has room for a marker, and for a gap to the next


def title_of_run(record: RunRecord) -> str:
    """Return two lines: how far the run is and how well it does; what it is."""
    done, planned = len(record.epochs), record.planned_epochs
    epochs = count(done, "epoch") if planned in (None, done) else f"{done} of {planned} epochs"
    last, best = record.last("test_accuracy"), record.best
    accuracy = "" if last is None else f", test accuracy {last:.4f}"
    if best is not None:
        accuracy += (
            f" (best {record.series('test_accuracy')[best]:.4f}, epoch {record.epoch_numbers[best]:g})"
        )
    model, ranks, threads = (record.options.get(name) for name in ("model", "ranks", "threads"))
    words = [f"{model['cell']} cell"] if model and "cell" in model else []
    words.append(solver_words(record.options["solver"]))
    if isinstance(ranks, int) and isinstance(threads, int):
        words.append(f"{count(ranks, 'rank')} x {count(threads, 'thread')}")
    return f"{record.folder}: {epochs}{accuracy}\n{', '.join(words)}"


def draw_run(record: RunRecord, title: str, path: Path) -> None:
    """Draw the panels for which the run has data; raises `DataError` where there are none."""
    panels = _panels(record)
    if not panels:
        raise DataError(f"{record.folder / 'metrics.jsonl'} has no values that can be drawn; train again")
    kind = next((kind for kind in ("mgrit", "serial") if kind in record.confusions), None)
    side, height = size_of_confusion(record) if kind is not None else (0.0, 0.0)
    columns = 1 if height > _LARGE else 2
    names = [str(number) for number in range(len(panels))]
    rows = [names[first : first + columns] for first in range(0, len(names), columns)]
    # A panel that is alone in its row takes all of it.
    rows = [row * (columns // len(row)) + ["confusion"] * (kind is not None) for row in rows]
    size = (columns * _WIDTH + side, 0.5 + max(_HEIGHTS[columns] * len(rows), height))
    # Names of classes and folders are no formulas.
    with pyplot().rc_context({"text.parse_math": False}):
        figure = pyplot().figure(figsize=size, layout="constrained")
        figure.get_layout_engine().set(w_pad=_PAD, h_pad=_PAD)
        figure.suptitle("\n".join(map(_ending, title.splitlines())), fontsize=10)
        axes = figure.subplot_mosaic(rows, width_ratios=[_WIDTH] * columns + [side] * (kind is not None))
        for name, draw in zip(names, panels, strict=True):
            draw(axes[name])
        if kind is not None:
            draw_confusion(figure, axes["confusion"], record, kind)
        for _ in range(2):
            figure.draw_without_rendering()  # each brings the layout nearer to its end
        save_figure(figure, path)


def _ending(line: str) -> str:
    """Shorten a line at its beginning, where the folder's name is."""
    return shown(line, len(line)) if len(line) <= _TITLE else "…" + shown(line[1 - _TITLE :], _TITLE)


def _panels(record: RunRecord) -> list[Panel]:
    """Return what draws each panel for which there is data, onto an axis."""
    losses = _present(record, {part: f"{part}_loss" for part in _PARTS})
    accuracies = _present(
        record, {part: f"{part}_accuracy" for part in _PARTS} | {"test, top 5": "test_top5"}
    )
    residuals = _present(
        record, {"forward": "forward_residual", "backward": "backward_residual", "test": "test_residual"}
    )
    solved = any((values > 0).any() for values in residuals.values())
    seconds = seconds_of_epochs(record)
    wanted: list[tuple[object, Panel]] = [
        (losses, partial(_draw_losses, record, losses)),
        (accuracies, partial(_draw_accuracies, record, accuracies)),
        (solved or _troubled(record, residuals).any(), partial(_draw_residuals, record, residuals)),
        (seconds, partial(_draw_seconds, record, seconds)),
    ]
    return [panel for present, panel in wanted if present]


def _present(record: RunRecord, names: dict[str, str]) -> dict[str, Values]:
    """Return by label the metrics of which the run has any value."""
    series = {label: record.series(name) for label, name in names.items()}
    return {label: values for label, values in series.items() if not np.isnan(values).all()}


def seconds_of_epochs(record: RunRecord) -> dict[str, Values]:
    """Return by kind the seconds of every epoch (epochs,) as far as they are known, and 0.

    "training" are those of epochs that do not tell what they went into; kinds without any are left out.
    """
    kinds = {label: record.series(f"seconds.{name}") for name, label in KINDS_OF_SECONDS.items()}
    told = np.any([np.isfinite(values) for values in kinds.values()], axis=0)
    kinds["training"] = np.where(told, 0.0, record.series("train_seconds"))
    kinds["test"] = record.series("test_seconds")
    known = {label: np.where(np.isfinite(values), values, 0.0) for label, values in kinds.items()}
    return {label: values for label, values in known.items() if values.any()}


def _draw_losses(record: RunRecord, losses: dict[str, Values], axis: Any) -> None:
    _shade_levels(record, axis)
    for part, values in losses.items():
        _line(record, axis, values, part, _PARTS[part])
    axis.set_ylabel("cross entropy")
    _finish_epochs(record, axis, "loss")


def _draw_accuracies(record: RunRecord, accuracies: dict[str, Values], axis: Any) -> None:
    _shade_levels(record, axis)
    for label, values in accuracies.items():
        part, _, top = label.partition(", ")
        _line(record, axis, values, label, _PARTS[part], alpha=0.5 if top else 1.0)
    best, test = record.best, record.series("test_accuracy")
    if best is not None and np.isfinite(test[best]):
        number = record.epoch_numbers[best]
        label = f"best: {test[best]:.4f}, epoch {number:g}"
        axis.plot(number, test[best], "*", color="C3", markersize=11, fillstyle="none", label=label)
    axis.set_ylabel("fraction recognised")
    _finish_epochs(record, axis, "accuracy")


def _draw_residuals(record: RunRecord, residuals: dict[str, Values], axis: Any) -> None:
    _shade_levels(record, axis)
    for colour, (label, values) in enumerate(residuals.items()):
        shown_values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        if not np.isnan(shown_values).all():
            _line(record, axis, shown_values, label, f"C{colour}")
            _log_scale(axis)
    troubled = _troubled(record, residuals)
    if troubled.any():
        solves = record.series("diverged_solves")
        number = int(np.nansum(np.where(np.isfinite(solves), solves, 0.0)))
        axis.plot(
            record.epoch_numbers[troubled],
            np.full(int(troubled.sum()), 0.96),
            "x",
            color="C3",
            transform=axis.get_xaxis_transform(),
            label=count(number, "diverged solve") if number else "not finite",
        )
        # Room for the marks above the curves.
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.12 if axis.get_yscale() == "log" else high)
    axis.set_ylabel("relative to the states")
    _finish_epochs(record, axis, "largest residual of an epoch")


def _log_scale(axis: Any) -> None:
    from matplotlib.ticker import LogFormatter

    axis.set_yscale("log")
    # The formatters by default write formulas, which names are kept from being.
    axis.yaxis.set_major_formatter(LogFormatter())
    axis.yaxis.set_minor_formatter(LogFormatter())


def _troubled(record: RunRecord, residuals: dict[str, Values]) -> npt.NDArray[np.bool_]:
    """Return in which epochs a solve diverged: (epochs,)."""
    troubled: npt.NDArray[np.bool_] = record.series("diverged_solves") > 0
    for values in residuals.values():
        troubled |= np.isinf(values)
    return troubled


def _draw_seconds(record: RunRecord, seconds: dict[str, Values], axis: Any) -> None:
    numbers = record.epoch_numbers
    half = 0.4 if len(numbers) <= _SPACED else 0.5
    edges = np.column_stack([numbers - half, numbers + half]).ravel()
    bottom = np.zeros_like(numbers)
    for kind, values in seconds.items():
        # Steps are drawn much faster than a bar for each epoch; between epochs there is nothing.
        baseline, top = (
            np.column_stack([each, np.zeros_like(each)]).ravel()[:-1] for each in (bottom, bottom + values)
        )
        axis.stairs(top, edges, baseline=baseline, fill=True, color=_SECONDS[kind], label=kind)
        bottom = bottom + values
    axis.set_ylim(0, 1.05 * bottom.max())
    axis.set_ylabel("seconds")
    _finish_epochs(record, axis, "seconds an epoch")


def _line(record: RunRecord, axis: Any, values: Values, label: str, colour: str, alpha: float = 1.0) -> None:
    marker = "." if len(values) <= _SPACED else ""
    axis.plot(record.epoch_numbers, values, color=colour, marker=marker, label=label, alpha=alpha)


def _shade_levels(record: RunRecord, axis: Any) -> None:
    """Shade epochs on coarsened sequences, the darker the coarser."""
    pairs = zip(record.series("level"), record.epoch_numbers, strict=True)
    for level, group in groupby(pairs, key=lambda pair: pair[0]):
        if level > 1:
            numbers = [number for _, number in group]
            shade = str(max(0.97 - 0.05 * np.log2(level), 0.7))
            axis.axvspan(
                numbers[0] - 0.5, numbers[-1] + 0.5, color=shade, zorder=0, label=f"1/{level:g} of the steps"
            )


def _finish_epochs(record: RunRecord, axis: Any, title: str) -> None:
    numbers = record.epoch_numbers
    margin = 0.5 if len(numbers) > 1 else 0.9
    axis.set_xlim(numbers.min() - margin, numbers.max() + margin)
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axis.set_xlabel("epoch", fontsize=8)
    axis.yaxis.label.set_fontsize(8)
    axis.tick_params(labelsize=7)
    finish(axis)
    legend_above(axis, title)
