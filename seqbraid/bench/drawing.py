"""Pictures of what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqbraid.bench.parallel import ParallelRun
from seqbraid.bench.scaling import ScalingPoint
from seqbraid.bench.serial import Comparison, Doubling
from seqbraid.bench.tables import LABELS
from seqbraid.plots.figure import pyplot, save_figure

__all__ = ["draw_features", "draw_parallel", "draw_scaling", "draw_serial"]


def draw_serial(
    rows: Sequence[Comparison],
    doubling: Sequence[Doubling],
    rate: float,
    title: str,
    path: Path,
) -> None:
    """Draw microseconds a step by size and contender, and the time by length where that was measured."""
    panels = 2 if doubling else 1
    figure, axes = pyplot().subplots(
        1, panels, figsize=(7 * panels, 4), squeeze=False, constrained_layout=True
    )
    bars = {
        label: {row: rows[row].microseconds(name) for row in range(len(rows)) if name in rows[row].times}
        for name, label in LABELS.items()
    }
    bars = {label: heights for label, heights in bars.items() if heights}
    bars["floor"] = {row: rows[row].floor_microseconds(rate) for row in range(len(rows))}
    _group_bars(axes[0, 0], bars, [str(row.size) for row in rows])
    axes[0, 0].set(yscale="log", xlabel="T,B,I,H", ylabel="microseconds a step, forward and backward")
    if doubling:
        for name in ("serial", "mgrit"):
            steps = [row.size.T for row in doubling]
            axes[0, 1].loglog(
                steps, [row.times[name].median for row in doubling], marker="o", label=LABELS[name]
            )
        axes[0, 1].set_xscale("log", base=2)
        axes[0, 1].set(xlabel="steps", ylabel="seconds, forward and backward")
        axes[0, 1].legend(fontsize=8)
    _finish(figure, axes.flat, title, path)


def draw_parallel(runs: Sequence[ParallelRun], title: str, path: Path) -> None:
    """Draw the serial path's time, MGRIT's, and the simulated one where there is one."""
    figure, axis = pyplot().subplots(figsize=(7, 4), constrained_layout=True)
    bars = {
        "Serial(), rank 0 alone": {number: run.serial.median for number, run in enumerate(runs)},
        "MGRIT()": {number: run.slowest.median for number, run in enumerate(runs)},
        "MGRIT(), simulated": {
            number: run.simulated.median for number, run in enumerate(runs) if run.simulated is not None
        },
    }
    _group_bars(
        axis, {label: heights for label, heights in bars.items() if heights}, [str(run.size) for run in runs]
    )
    axis.set(xlabel="T,B,I,H", ylabel="seconds, forward and backward")
    _finish(figure, [axis], title, path)


def draw_scaling(
    points: Sequence[ScalingPoint],
    fastest: Sequence[ScalingPoint],
    error_bound: float,
    title: str,
    path: Path,
) -> None:
    """Draw the speedup by the number of simulated ranks, for every solver; mark the fastest."""
    figure, axis = pyplot().subplots(figsize=(6.5, 4.5), constrained_layout=True)
    for name in dict.fromkeys(point.name for point in points):
        of_it = sorted(
            (point for point in points if point.name == name and point.speedup is not None),
            key=lambda point: point.ranks,
        )
        axis.plot(
            [point.ranks for point in of_it],
            [point.speedup for point in of_it],
            marker=".",
            alpha=0.6,
            label=name,
        )
    best = sorted(fastest, key=lambda point: point.ranks)
    axis.plot(
        [point.ranks for point in best],
        [point.speedup for point in best],
        "ko",
        fillstyle="none",
        label=f"fastest with a gradient error up to {error_bound:g}",
    )
    ranks = sorted({point.ranks for point in points})
    axis.plot(ranks, ranks, "k:", linewidth=0.8, label="as many times as ranks")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set(xlabel="simulated ranks", ylabel="speedup over Serial() on one rank")
    axis.legend(fontsize=8)
    _finish(figure, [axis], f"simulated: {title}", path)


def draw_features(milliseconds: Mapping[str, float], title: str, path: Path) -> None:
    """Draw the milliseconds a frame of decoding, of the network, and of both."""
    figure, axis = pyplot().subplots(figsize=(6, 3.5), constrained_layout=True)
    axis.bar(list(milliseconds), list(milliseconds.values()), width=0.5)
    axis.set(ylabel="milliseconds a frame")
    _finish(figure, [axis], title, path)


def _group_bars(axis: Any, bars: Mapping[str, Mapping[int, float]], groups: Sequence[str]) -> None:
    """Draw for every label its height in each group, side by side."""
    width = 0.8 / len(bars)
    for number, (label, heights) in enumerate(bars.items()):
        shift = (number - (len(bars) - 1) / 2) * width
        axis.bar([group + shift for group in heights], list(heights.values()), width, label=label)
    axis.set_xticks(range(len(groups)), groups, fontsize=7)
    axis.legend(fontsize=8)


def _finish(figure: Any, axes: Iterable[Any], title: str, path: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    figure.suptitle(title, fontsize=8)
    save_figure(figure, path)
