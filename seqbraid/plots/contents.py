"""The picture of a data set: clips a class and true lengths, and below them a sample of each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.data.contents import PARTS, Contents
from seqbraid.data.samples import ClipFrames, Frames, Lines, SequenceLines, evenly
from seqbraid.plots.figure import finish, pyplot, save_figure
from seqbraid.text import shown

__all__ = ["draw_contents", "length_edges"]

_COLOURS = {"train": "C0", "test": "C1", "unused": "0.65", "failed": "C3", "pending": "0.9"}
_BAR = 0.16  # inches a class
_FEW, _MOST_NAMES = 16, 300  # names that may lie aslant, and that are written
_UPPER, _ROW, _PANEL = 4.0, 0.95, 1.6  # inches: the upper part, a row of frames, of sequences
_COLUMNS = 3
_GAP = 6  # pixels between frames
_MOST_BARS = 40


def draw_contents(contents: Contents, samples: Frames | Lines | None, title: str, path: Path) -> None:
    """Draw class counts, true lengths and, where there are any, the samples."""
    plt = pyplot()
    classes = _BAR * min(len(contents.class_names), _MOST_NAMES)
    width, lower = max(11.0, 4.5 + classes), _height(samples)
    # Names of classes and clips are no formulas.
    with plt.rc_context({"text.parse_math": False}):
        figure = plt.figure(figsize=(width, _UPPER + lower), constrained_layout=True)
        figure.suptitle(shown(title, 120), fontsize=10)
        summary = figure
        if samples is not None and lower:
            summary, sheet = figure.subfigures(2, 1, height_ratios=[_UPPER, lower])
            sheet.suptitle(shown(samples.caption, 200), fontsize=9)
            if isinstance(samples, Frames):
                _draw_frames(sheet.subplots(), samples.clips)
            else:
                _draw_lines(sheet, samples.sequences)
        counts, lengths = summary.subplots(1, 2, width_ratios=[max(6.5, classes), 4])
        _draw_counts(counts, contents)
        _draw_lengths(lengths, contents)
        save_figure(figure, path)


def _height(samples: Frames | Lines | None) -> float:
    """Return the inches that the samples take, 0 where there are none."""
    if isinstance(samples, Frames):
        return _ROW * len(samples.clips)
    return 0.0 if samples is None else _PANEL * -(-len(samples.sequences) // _COLUMNS)


def _draw_counts(axis: Any, contents: Contents) -> None:
    classes = len(contents.class_names)
    bottom = np.zeros(classes, dtype=np.int64)
    for part in PARTS:
        heights = contents.count_by_class(part)
        if heights.any():
            label = f"{part} ({heights.sum()})"
            axis.bar(range(classes), heights, 0.8, bottom=bottom, color=_COLOURS[part], label=label)
            bottom += heights
    named = evenly(classes, _MOST_NAMES)
    names = [shown(contents.class_names[number], 24) for number in named]
    slope = {"rotation": 90} if classes > _FEW else {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axis.set_xticks(named, names, fontsize=7, **slope)
    axis.set_xlim(-0.6, classes - 0.4)
    # Room for the legend above the bars.
    axis.set_ylim(0, 1.15 * bottom.max())
    axis.legend(fontsize=7, ncols=len(PARTS), loc="upper right")
    axis.set_title(f"sequences of each of {classes} classes", fontsize=9)
    axis.yaxis.get_major_locator().set_params(integer=True)
    finish(axis, "y")


def _draw_lengths(axis: Any, contents: Contents) -> None:
    lengths = contents.true_lengths()
    missing = [f"{contents.count(part)} {part}" for part in ("failed", "pending") if contents.count(part)]
    title = f"true lengths of {len(lengths)} sequences"
    axis.set_title(title + (f" ({', '.join(missing)})" if missing else ""), fontsize=9)
    axis.set(xlabel="steps", ylabel="sequences")
    for side in (axis.xaxis, axis.yaxis):
        side.get_major_locator().set_params(integer=True)
    if len(lengths):
        edges = length_edges(lengths)
        parts = [part for part in PARTS if len(contents.true_lengths(part))]
        axis.hist(
            [contents.true_lengths(part) for part in parts],
            bins=edges,
            stacked=True,
            color=[_COLOURS[part] for part in parts],
        )
        # A single bar is not to fill the axis.
        axis.set_xlim(min(edges[0], lengths.min() - 2), max(edges[-1], lengths.max() + 2))
    finish(axis)


def length_edges(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the edges of a histogram of lengths: bars of equally many whole numbers, at most 40 bars."""
    least, most = int(lengths.min()), int(lengths.max())
    width = -(-(most - least + 1) // _MOST_BARS)
    bars = -(-(most - least + 1) // width)
    edges: npt.NDArray[np.float64] = least - 0.5 + width * np.arange(bars + 1, dtype=np.float64)
    return edges


def _draw_frames(axis: Any, clips: Sequence[ClipFrames]) -> None:
    """Lay all frames out in one image, a row a clip, which is much faster than axes for each."""
    side = clips[0].images.shape[1] + _GAP
    columns = max(len(clip.images) for clip in clips)
    sheet = np.full((side * len(clips), side * columns, 3), 255, dtype=np.uint8)
    for row, clip in enumerate(clips):
        for column, (number, image) in enumerate(zip(clip.numbers, clip.images, strict=True)):
            top, left = side * row, side * column
            sheet[top : top + side - _GAP, left : left + side - _GAP] = image
            box = {"facecolor": "black", "alpha": 0.5, "pad": 1, "linewidth": 0}
            axis.text(left + 4, top + 6, str(number), color="white", fontsize=6, va="top", bbox=box)
    axis.imshow(sheet)
    labels = [f"{shown(clip.class_name, 28)}\n{shown(Path(clip.clip).name, 40)}" for clip in clips]
    axis.set_yticks([side * (row + 0.5) - _GAP / 2 for row in range(len(clips))], labels, fontsize=7)
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.set_frame_on(False)


def _draw_lines(figure: Any, sequences: Sequence[SequenceLines]) -> None:
    axes = figure.subplots(-(-len(sequences) // _COLUMNS), _COLUMNS, squeeze=False).ravel()
    for axis, sequence in zip(axes, sequences, strict=False):
        for number, channel in enumerate(sequence.channels):
            values = sequence.values[:, number]
            axis.plot(values, color=f"C{number}", linewidth=0.8, label=str(channel))
        axis.set_title(shown(sequence.class_name, 40), fontsize=8)
        axis.tick_params(labelsize=7)
        finish(axis)
    for axis in axes[len(sequences) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="channel", loc="outside right upper", fontsize=7, title_fontsize=7)
