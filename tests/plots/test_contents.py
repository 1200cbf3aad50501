"""The picture of a data set."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import T, fill, make_store, many_classes

from seqbraid.data.contents import contents_of_store
from seqbraid.data.samples import ClipFrames, Frames, sample_lines
from seqbraid.plots.contents import draw_contents, length_edges


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_every_length_falls_into_one_of_at_most_forty_equal_bars(lengths: list[int]) -> None:
    edges = length_edges(np.array(lengths))
    assert 2 <= len(edges) <= 41
    # No length lies on an edge, and the bars hold equally many whole numbers.
    assert np.all(edges % 1 == 0.5)
    assert len(set(np.diff(edges))) == 1
    assert edges[0] == min(lengths) - 0.5
    assert edges[-2] < max(lengths) < edges[-1]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list into which every figure goes that is saved."""
    figures: list[Any] = []
    monkeypatch.setattr(
        "seqbraid.plots.contents.save_figure", lambda figure, path: figures.append((figure, path))
    )
    return figures


def test_all_of_51_names_are_written_and_none_covers_another(tmp_path: Path, drawn: list[Any]) -> None:
    contents = contents_of_store(many_classes(tmp_path, 51))
    draw_contents(contents, None, "data", tmp_path / "x.png")
    [(figure, _)] = drawn
    figure.canvas.draw()
    axis = figure.axes[0]
    labels = axis.get_xticklabels()
    assert [label.get_text() for label in labels] == contents.class_names
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert all(box.y0 >= 0 for box in boxes)
    plt.close(figure)


def test_the_bars_are_the_counts(tmp_path: Path, drawn: list[Any]) -> None:
    contents = contents_of_store(fill(make_store(tmp_path), [12, 3, 5, 4, 0, 7, -1, 2]))
    draw_contents(contents, None, "data", tmp_path / "x.png")
    [(figure, _)] = drawn
    counts, lengths = figure.axes
    bars = [(bar.get_y(), bar.get_height()) for group in counts.containers for bar in group]
    # hop and spin: train, test, unused, failed, pending, one upon the other.
    assert bars == [(0, 2), (0, 0), (2, 1), (0, 2), (3, 1), (2, 0), (4, 0), (2, 1), (4, 0), (3, 1)]
    assert sum(bar.get_height() for group in lengths.containers for bar in group) == 6
    for side in (counts.yaxis, lengths.xaxis, lengths.yaxis):
        assert all(float(tick).is_integer() for tick in side.get_ticklocs())
    assert lengths.get_title() == "true lengths of 6 sequences (1 failed, 1 pending)"
    plt.close(figure)


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    # Formulas of matplotlib, line ends, bytes of file names that are no text, more than there is room for.
    class_names = ["$a_{$", "", "a\nb\x00", os.fsdecode(b"caf\xe9"), "long " * 50, "_hidden", "\\frac{$}"]
    clips = [f"{name}/{name}.avi" for name in class_names]
    splits = {"1": [1] * len(clips)}
    store = make_store(
        tmp_path / "store",
        clips=clips,
        labels=range(len(clips)),
        splits=splits,
        class_names=class_names,
    )
    contents = contents_of_store(fill(store, [T] * len(clips)))
    images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    rows = [ClipFrames(name, clip, [0, 1], images) for name, clip in zip(class_names, clips, strict=True)]
    for samples in (Frames(rows, "$caption_{$"), sample_lines(contents)):
        draw_contents(contents, samples, "$title_{$" + clips[3], tmp_path / "x.svg")
        drawn = (tmp_path / "x.svg").read_text(encoding="utf-8")
        for text in (
            "$a_{$",
            "a?b?",
            "caf?",
            "long long long long lon…",
            "_hidden",
            "$title_{$caf?/caf?.avi",
        ):
            assert f"<!-- {text} -->" in drawn
