"""What of a run is drawn, and that it can be read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from run_folders import (
    SERIAL,
    SHARES,
    class_names,
    evaluation_of,
    make_run,
    metrics_of_run,
    old,
)

from seqbraid.cli.main import main
from seqbraid.plots.curves import draw_run, seconds_of_epochs, title_of_run
from seqbraid.runs.record import read_run

RESIDUAL = "largest residual of an epoch"
CONFUSION = "confusion matrix after epoch"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that draws a run and returns its figure."""
    figures: list[Any] = []
    monkeypatch.setattr("seqbraid.plots.curves.save_figure", lambda figure, path: figures.append(figure))

    def draw(folder: Path) -> Any:
        record = read_run(folder)
        draw_run(record, title_of_run(record), folder / "x.png")
        return figures[-1]

    yield draw
    for figure in figures:
        plt.close(figure)


def panel(figure: Any, title: str) -> Any:
    [axis] = [axis for axis in figure.axes if axis.get_title().startswith(title)]
    return axis


def titles(figure: Any) -> list[str]:
    """Return the panels' titles up to the first comma."""
    return [axis.get_title().split(",")[0] for axis in figure.axes if axis.get_title()]


def line(axis: Any, label: str) -> Any:
    [found] = [line for line in axis.lines if line.get_label() == label]
    return found


@pytest.mark.parametrize(
    ("changes", "without"),
    [
        ({}, []),
        ({"solver": SERIAL}, [RESIDUAL]),
        ({"evaluation": None}, [f"{CONFUSION} 3"]),
        ({"evaluation": {"epoch": 3, "inference": {}}}, [f"{CONFUSION} 3"]),
        ({"metrics": old(metrics_of_run(3)), "evaluation": None}, [f"{CONFUSION} 3"]),
        (
            {"metrics": [{"epoch": 1, "test_accuracy": 0.5}], "evaluation": None},
            ["loss", RESIDUAL, "seconds an epoch", f"{CONFUSION} 3"],
        ),
    ],
)
def test_a_panel_without_data_is_left_out(
    tmp_path: Path, drawn: Any, changes: dict[str, Any], without: list[str]
) -> None:
    everything = ["loss", "accuracy", RESIDUAL, "seconds an epoch", f"{CONFUSION} 3"]
    figure = drawn(make_run(tmp_path / "run", **changes))
    assert sorted(titles(figure)) == sorted(set(everything) - set(without))


def test_curves_are_the_metrics_and_the_best_epoch_is_marked(tmp_path: Path, drawn: Any) -> None:
    metrics = metrics_of_run(5)
    for entry, accuracy in zip(metrics, [0.1, 0.7, 0.3, 0.7, 0.6], strict=True):
        entry["test_accuracy"] = accuracy
    figure = drawn(make_run(tmp_path / "run", epochs=8, metrics=metrics))
    for title, kind, parts in (("loss", "loss", 2), ("accuracy", "accuracy", 4)):
        axis = panel(figure, title)
        assert len(axis.lines) == parts
        for part in ("train", "test"):
            points = line(axis, part).get_xydata()
            expected = [(entry["epoch"], entry[f"{part}_{kind}"]) for entry in metrics]
            np.testing.assert_array_equal(points, expected)
    top = line(panel(figure, "accuracy"), "test, top 5").get_ydata()
    np.testing.assert_array_equal(top, [entry["test_top5"] for entry in metrics])
    star = line(panel(figure, "accuracy"), "best: 0.7000, epoch 2")
    assert (star.get_xdata().item(), star.get_ydata().item()) == (2, 0.7)
    first, second = figure.get_suptitle().splitlines()
    assert first.endswith("/run: 5 of 8 epochs, test accuracy 0.6000 (best 0.7000, epoch 2)")
    assert second == "implicit cell, mgrit c=4 FCF 2+1, 4 ranks x 1 thread"


def test_with_a_validation_part_that_says_which_epoch_is_the_best(tmp_path: Path, drawn: Any) -> None:
    metrics = metrics_of_run(3)
    for entry, validation, test in zip(metrics, [0.2, 0.6, 0.5], [0.3, 0.4, 0.9], strict=True):
        entry |= {"validation_accuracy": validation, "validation_loss": 1.0, "test_accuracy": test}
    figure = drawn(make_run(tmp_path / "run", metrics=metrics))
    axis = panel(figure, "accuracy")
    assert line(axis, "validation").get_ydata().tolist() == [0.2, 0.6, 0.5]
    assert line(axis, "best: 0.4000, epoch 2").get_ydata().item() == 0.4
    assert line(panel(figure, "loss"), "validation").get_ydata().tolist() == [1, 1, 1]


def test_residuals_are_drawn_on_a_log_axis_and_trouble_is_marked(tmp_path: Path, drawn: Any) -> None:
    metrics = metrics_of_run(4)
    metrics[1]["diverged_solves"] = 3
    metrics[3] |= {"forward_residual": float("inf"), "diverged_solves": 1}
    axis = panel(drawn(make_run(tmp_path / "run", metrics=metrics)), RESIDUAL)
    assert axis.get_yscale() == "log"
    forward = line(axis, "forward").get_ydata()
    np.testing.assert_array_equal(forward, [*(entry["forward_residual"] for entry in metrics[:3]), np.nan])
    crosses = line(axis, "4 diverged solves")
    assert crosses.get_xdata().tolist() == [2, 4]
    # They are in the part of the axis above all curves.
    highest = max(entry["test_residual"] for entry in metrics)
    height = axis.transAxes.inverted().transform(axis.transData.transform((1, highest)))[1]
    assert height < 0.92


def test_of_solves_that_all_diverged_the_marks_are_drawn(tmp_path: Path, drawn: Any) -> None:
    metrics = metrics_of_run(1, parallel=False)
    metrics[0]["diverged_solves"] = 1
    axis = panel(drawn(make_run(tmp_path / "run", metrics=metrics)), RESIDUAL)
    assert line(axis, "1 diverged solve").get_xdata().tolist() == [1]


def test_bars_stack_up_to_the_seconds_of_an_epoch(tmp_path: Path, drawn: Any) -> None:
    metrics = metrics_of_run(3, levels=[2])
    metrics[1] = old([metrics[1]])[0]
    folder = make_run(tmp_path / "run", metrics=metrics)
    seconds = seconds_of_epochs(read_run(folder))
    assert list(seconds) == [
        "relaxation",
        "coarse solve",
        "communication",
        "data",
        "other",
        "training",
        "test",
    ]
    for label, share in zip(seconds, SHARES.values(), strict=False):
        np.testing.assert_allclose(seconds[label], [2 * share, 0, 4 * share])
    assert seconds["training"].tolist() == [0, 4, 0]
    axis = panel(drawn(folder), "seconds an epoch")
    bottom = np.zeros(3)
    for patch, (label, values) in zip(axis.patches, seconds.items(), strict=True):
        stairs = patch.get_data()
        assert patch.get_label() == label
        # Every second step is the gap between two bars.
        np.testing.assert_allclose(stairs.baseline[::2], bottom)
        np.testing.assert_allclose(stairs.values[::2], bottom + values)
        assert not stairs.values[1::2].any()
        np.testing.assert_allclose(stairs.edges, [0.6, 1.4, 1.6, 2.4, 2.6, 3.4])
        bottom = bottom + values
    np.testing.assert_allclose(bottom, [2.5, 4.5, 4.5])


def test_epochs_on_coarser_levels_are_shaded(tmp_path: Path, drawn: Any) -> None:
    figure = drawn(make_run(tmp_path / "run", epochs=6, levels=[4, 4, 2]))
    for title in ("loss", "accuracy", RESIDUAL):
        spans = [
            (patch.get_label(), patch.get_x(), patch.get_x() + patch.get_width())
            for patch in panel(figure, title).patches
        ]
        assert spans == [("1/4 of the steps", 0.5, 2.5), ("1/2 of the steps", 2.5, 3.5)]


def test_the_confusion_matrix_shows_fractions_of_the_true_class_and_counts(
    tmp_path: Path, drawn: Any
) -> None:
    evaluation = evaluation_of(3, 3, mgrit=0.5, serial=0.6)
    evaluation["inference"]["mgrit"]["confusion"] = [[6, 2, 0], [0, 0, 0], [1, 0, 4]]
    folder = make_run(tmp_path / "run", classes=3, names=["hop", "spin", "sit"], evaluation=evaluation)
    axis = panel(drawn(folder), CONFUSION)
    np.testing.assert_allclose(axis.images[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0.2, 0, 0.8]])
    # Columns are predicted classes.
    counts = {text.get_position(): text.get_text() for text in axis.texts}
    assert counts == {(0, 0): "6", (1, 0): "2", (0, 2): "1", (2, 2): "4"}
    for side in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in side] == ["hop", "spin", "sit"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "true class")
    assert axis.get_title() == (
        "confusion matrix after epoch 3, MGRIT inference\naccuracy: MGRIT 0.5000, serial 0.6000"
    )


@pytest.mark.parametrize(
    ("classes", "epochs", "ending", "changes"),
    [
        (2, 1, "", {}),
        (14, 30, "", {"levels": [4, 4, 2]}),
        (20, 2, "_that_is_long_for_its_place", {"solver": SERIAL}),
        (51, 30, "_that_is_long_for_its_place", {}),
        (51, 200, "", {"evaluation": None, "solver": SERIAL}),
    ],
)
def test_nothing_covers_anything_else(
    tmp_path: Path, drawn: Any, classes: int, epochs: int, ending: str, changes: dict[str, Any]
) -> None:
    names = class_names(classes, ending)
    figure = drawn(make_run(tmp_path / "run", classes, epochs, names=names, **changes))
    boxes = {axis: axis.get_tightbbox() for axis in figure.axes}
    for (one, left), (other, right) in itertools.combinations(boxes.items(), 2):
        apart = left.x1 <= right.x0 or right.x1 <= left.x0 or left.y1 <= right.y0 or right.y1 <= left.y0
        assert apart, (one.get_title(), other.get_title())
    for box in boxes.values():
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    for axis in figure.axes:
        for labels, start, end in (
            (axis.get_xticklabels(), "x0", "x1"),
            (axis.get_yticklabels(), "y0", "y1"),
        ):
            shown = [label.get_window_extent() for label in labels if label.get_text()]
            shown.sort(key=lambda box: getattr(box, start))
            assert all(getattr(one, end) <= getattr(two, start) for one, two in itertools.pairwise(shown))
    if "evaluation" not in changes:
        axis = panel(figure, CONFUSION)
        assert len(axis.get_xticklabels()) == len(axis.get_yticklabels()) == classes
        assert bool(axis.texts) == (classes < 51)


def test_any_name_can_be_drawn(tmp_path: Path) -> None:
    names = ["$a_{$", "", "a\nb\x00", "_hidden", "long " * 50, "\\frac{$}"]
    folder = make_run(tmp_path / ("long " * 40) / "$run_{$", names=names)
    assert main(["plot", str(folder), "--output", str(tmp_path / "x.svg")]) == 0
    picture = (tmp_path / "x.svg").read_text(encoding="utf-8")
    for text in ("$a_{$", "a?b?", "_hidden", "long long long long lon…", "\\frac{$}"):
        assert f"<!-- {text} -->" in picture
    assert "<!-- …" in picture
    assert "$run_{$: 3 epochs, test accuracy" in picture
