"""`seqbraid plot data`: what is counted, what is sampled, and the picture that comes of it."""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_ranks import RunMain

from preprocess.figures import write_video
from preprocess.samples import sample_frames
from seqbraid.cli.main import main
from seqbraid.data.contents import PARTS, contents_of_dataset, contents_of_store, table_of_parts
from seqbraid.data.dataset import open_dataset
from seqbraid.data.samples import ClipFrames, Frames, evenly, sample_lines
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError
from seqbraid.plots.contents import draw_contents, length_edges

WriteArrays = Callable[..., Path]
T, F = 12, 3
CLIPS = [f"{name}/{name}_{number}.avi" for name in ("hop", "spin") for number in range(4)]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]


def make_store(folder: Path, **changes: Any) -> FeatureStore:
    arguments: dict[str, Any] = {
        "clips": CLIPS,
        "labels": LABELS,
        "splits": {"1": [1, 1, 2, 0, 1, 2, 1, 2], "2": [2, 1, 1, 1, 0, 0, 1, 2]},
        "class_names": ["hop", "spin"],
        "frames": T,
        "feature_size": F,
        "options": {"backbone": "resnet18"},
    }
    return FeatureStore.create(folder, **(arguments | changes))


def fill(store: FeatureStore, lengths: list[int]) -> FeatureStore:
    """Write clips of these lengths; 0: failed, -1: left pending."""
    for index, length in enumerate(lengths):
        if length > 0:
            store.write_clip(index, np.full((length, store.shape[2]), index, dtype=np.float32))
        elif length == 0:
            store.mark_failed(index)
    return store


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return clips of twelve grey frames; the frame says by its shade which clip and which frame it is."""
    for index, clip in enumerate(CLIPS):
        shades = 20 * index + 5 * np.arange(T, dtype=np.uint8)
        frames = np.broadcast_to(shades[:, None, None, None], (T, 32, 32, 3))
        (tmp_path / "videos" / clip).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "videos" / clip, np.ascontiguousarray(frames))
    return tmp_path / "videos"


def shade(clip: int, frame: int) -> float:
    return 20 * clip + 5 * frame


def png_size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG file, whose every chunk must match its checksum."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    position, kinds = 8, []
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        chunk = data[position + 4 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert zlib.crc32(chunk) == checksum
        kinds.append(chunk[:4])
        position += 12 + length
    assert kinds[-1] == b"IEND"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def plot(*arguments: object) -> int:
    return main(["plot", "data", *map(str, arguments)])


def test_a_store_is_counted_by_part_and_class(tmp_path: Path) -> None:
    store = fill(make_store(tmp_path), [12, 3, 5, 4, 0, 7, -1, 2])
    contents = contents_of_store(store)
    assert {part: contents.count_by_class(part).tolist() for part in PARTS} == {
        "train": [2, 0],
        "test": [1, 2],
        "unused": [1, 0],
        "failed": [0, 1],
        "pending": [0, 1],
    }
    assert contents.true_lengths("test").tolist() == [5, 7, 2]
    assert contents.true_lengths().tolist() == [12, 3, 5, 4, 7, 2]
    assert table_of_parts(contents) == [
        ["train", "2", "3", "7.5", "12"],
        ["test", "3", "2", "5", "7"],
        ["unused", "1", "4", "4", "4"],
        ["failed", "1", "-", "-", "-"],
        ["pending", "1", "-", "-", "-"],
        ["all", "8", "2", "4.5", "12"],
    ]
    np.testing.assert_array_equal(contents.load(5), np.full((7, F), 5))


def test_another_split_counts_other_parts(tmp_path: Path) -> None:
    store = fill(make_store(tmp_path), [12] * 8)
    assert contents_of_store(store, "2").count_by_class("train").tolist() == [3, 1]
    with pytest.raises(DataError, match=r"no split '3'; it has 1, 2"):
        contents_of_store(store, "3")


def test_arrays_are_counted_too(write_arrays: WriteArrays) -> None:
    lengths = {"length_train": [6, 5, 4, 3, 2, 1] * 2, "length_test": [1, 2, 3, 4, 5, 6]}
    path = write_arrays(**lengths)
    contents = contents_of_dataset(open_dataset(path))
    assert contents.count_by_class("train").tolist() == [4, 4, 4]
    assert contents.count_by_class("test").tolist() == [2, 2, 2]
    assert table_of_parts(contents) == [
        ["train", "12", "1", "3.5", "6"],
        ["test", "6", "1", "3.5", "6"],
        ["all", "18", "1", "3.5", "6"],
    ]
    with np.load(path) as arrays:
        np.testing.assert_array_equal(contents.load(4), arrays["x_train"][4, :2])
        np.testing.assert_array_equal(contents.load(14), arrays["x_test"][2, :3])


@given(count=st.integers(0, 2000), most=st.integers(1, 300))
def test_numbers_are_picked_evenly(count: int, most: int) -> None:
    picked = evenly(count, most)
    assert len(picked) == min(count, most)
    gaps = np.diff(picked)
    if len(picked) > 1:
        assert (picked[0], picked[-1]) == (0, count - 1)
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_every_length_falls_into_one_of_at_most_forty_equal_bars(lengths: list[int]) -> None:
    edges = length_edges(np.array(lengths))
    assert 2 <= len(edges) <= 41
    # No length lies on an edge, and the bars hold equally many whole numbers.
    assert np.all(edges % 1 == 0.5)
    assert len(set(np.diff(edges))) == 1
    assert edges[0] == min(lengths) - 0.5
    assert edges[-2] < max(lengths) < edges[-1]


def test_frames_are_spread_over_what_the_store_keeps_of_a_clip(tmp_path: Path, videos: Path) -> None:
    store = fill(make_store(tmp_path / "store", source=str(videos)), [10, 12, 12, 12, 0, -1, 12, 12])
    frames = sample_frames(contents_of_store(store), store, videos)
    # Of the pending clip the store will keep all twelve frames, of which ten are shown.
    assert [(clip.class_name, clip.clip) for clip in frames.clips] == [("hop", CLIPS[0]), ("spin", CLIPS[5])]
    assert frames.clips[0].numbers == list(range(10))
    assert frames.clips[1].numbers == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11]
    for index, clip in zip((0, 5), frames.clips, strict=True):
        expected = [shade(index, number) for number in clip.numbers]
        np.testing.assert_allclose(clip.images.mean(axis=(1, 2, 3)), expected, atol=2)
    assert frames.caption == "all 2 classes: frames of one clip each, numbered from 0 as in its file"


def test_frames_are_those_of_the_stride(tmp_path: Path, videos: Path) -> None:
    store = make_store(tmp_path / "store", frames=4, options={"backbone": "resnet18", "stride": 3})
    frames = sample_frames(contents_of_store(fill(store, [4] * 8)), store, videos)
    for index, clip in zip((0, 4), frames.clips, strict=True):
        assert clip.numbers == [0, 3, 6, 9]
        expected = [shade(index, number) for number in clip.numbers]
        np.testing.assert_allclose(clip.images.mean(axis=(1, 2, 3)), expected, atol=2)


def test_the_next_clip_stands_in_for_a_broken_one(tmp_path: Path, videos: Path) -> None:
    (videos / CLIPS[0]).write_bytes(b"no video")
    (videos / CLIPS[1]).unlink()
    for clip in CLIPS[4:]:
        (videos / clip).write_bytes(b"")
    store = fill(make_store(tmp_path / "store"), [12] * 8)
    frames = sample_frames(contents_of_store(store), store, videos)
    assert [clip.clip for clip in frames.clips] == [CLIPS[2]]
    assert frames.caption.endswith("; no clip can be decoded of spin")


def many_classes(folder: Path, classes: int, feature_size: int = F, **changes: Any) -> FeatureStore:
    """Return a store of two clips of every class."""
    names = [f"class_{label:02}_of_many" for label in range(classes)]
    clips = [f"{name}/{number}.avi" for name in names for number in range(2)]
    store = make_store(
        folder,
        clips=clips,
        labels=np.repeat(range(classes), 2),
        splits={"1": [1, 2] * classes},
        class_names=names,
        feature_size=feature_size,
        options={},
        **changes,
    )
    return fill(store, [T - label % 3 for label in range(2 * classes)])


def test_of_many_classes_and_channels_some_are_drawn_as_lines(tmp_path: Path) -> None:
    store = many_classes(tmp_path, 51, feature_size=28)
    lines = sample_lines(contents_of_store(store))
    assert lines.caption == "12 of 51 classes, evenly picked: one sequence each, 10 of 28 channels"
    labels = [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 50]
    assert [line.class_name for line in lines.sequences] == [store.class_names[label] for label in labels]
    for label, line in zip(labels, lines.sequences, strict=True):
        assert line.channels == list(range(0, 28, 3))
        np.testing.assert_array_equal(line.values, np.full((T - 2 * label % 3, 10), 2 * label))


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


def test_the_picture_of_videos_has_a_sheet(
    tmp_path: Path, videos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make_store(tmp_path / "store", source=str(videos)), [12, 3, 5, 4, 0, 7, -1, 2])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert plot(tmp_path / "store", "--split", "2") == 0
    said = capsys.readouterr()
    assert said.err == ""
    first, *table, _, last = said.out.splitlines()
    assert first == f"{tmp_path / 'store'}: 8 sequences of 2 classes, split 2"
    assert [line.split()[:2] for line in table[1:]] == [
        ["train", "3"],
        ["test", "2"],
        ["unused", "1"],
        ["failed", "1"],
        ["pending", "1"],
        ["all", "8"],
    ]
    assert last == "store-data.png written"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["store-data.png"]
    width, height = png_size(Path("store-data.png"))
    # The sheet of two rows makes it higher by these.
    assert plot(tmp_path / "store", "--output", "without.png", "--videos", tmp_path / "here") == 0
    other_width, other_height = png_size(Path("without.png"))
    assert 1000 < width == other_width
    assert 500 < other_height < height - 150
    assert np.ptp(plt.imread("store-data.png")) > 0.9


@pytest.mark.parametrize("ending", ["pdf", "svg"])
def test_the_ending_tells_the_format(write_arrays: WriteArrays, tmp_path: Path, ending: str) -> None:
    output = tmp_path / f"picture.{ending}"
    assert plot(write_arrays(), "--output", output) == 0
    assert output.read_bytes().lstrip().startswith({"pdf": b"%PDF", "svg": b"<?xml"}[ending])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", output.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "does not tell where its videos are"),
        ({"source": "/gone"}, "the videos are no longer in /gone"),
        ({"source": "."}, "no clip of {store} can be decoded in ."),
    ],
)
def test_without_its_videos_a_store_is_drawn_without_frames(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    store = fill(make_store(tmp_path / "store", **changes), [12] * 8)
    assert plot(store.folder, "--output", "x.png") == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("seqbraid plot: warning: ")
    assert message.format(store=store.folder) in line
    assert "--videos DIR" in line
    png_size(Path("x.png"))


def test_videos_that_have_moved_are_found_where_they_are_said_to_be(tmp_path: Path, videos: Path) -> None:
    store = fill(make_store(tmp_path / "store", source="/gone"), [12] * 8)
    assert plot(store.folder, "--output", tmp_path / "with.png", "--videos", videos) == 0
    assert plot(store.folder, "--output", tmp_path / "without.png") == 0
    assert png_size(tmp_path / "with.png")[1] > png_size(tmp_path / "without.png")[1] + 150


def test_sequences_are_drawn_as_lines(
    write_arrays: WriteArrays, tmp_path: Path, drawn: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plot(write_arrays(), "--output", tmp_path / "x.png") == 0
    store = many_classes(tmp_path / "store", 3)
    assert plot(store.folder, "--output", tmp_path / "x.png") == 0
    assert capsys.readouterr().err == ""
    for (figure, _), channels in zip(drawn, (2, F), strict=True):
        panels = [axis for axis in figure.axes if axis.lines]
        assert [len(axis.lines) for axis in panels] == [channels] * 3
        plt.close(figure)


def test_a_store_of_which_nothing_is_there_yet_can_be_drawn(tmp_path: Path) -> None:
    for name, options in (("videos", {"backbone": "resnet18"}), ("sequences", {})):
        store = make_store(tmp_path / name, options=options)
        assert plot(store.folder, "--output", tmp_path / "x.png") == 0
        png_size(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing does not exist"),
        (["folder"], "folder is not a feature store"),
        (["store", "--split", "9"], "store has no split '9'; it has 1, 2"),
        (["store", "--videos", "nowhere"], "--videos nowhere is not a folder"),
        (["data.npz", "--videos", "folder"], "--videos folder: data.npz is no feature store of videos"),
        (["data.npz", "--split", "1"], "--split 1 is for feature stores"),
        (["data.npz", "--output", "nowhere/x.png"], "--output nowhere/x.png: there is no folder nowhere"),
        (["data.npz", "--output", "folder"], "--output folder is a folder; name a file"),
        (["data.npz", "--output", "x.avi"], "--output x.avi: expected a name that ends in"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(
    write_arrays: WriteArrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    write_arrays()
    make_store(tmp_path / "store")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert plot(*arguments) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("seqbraid plot: error: ")
    assert message in line
    assert said.out == ""
    assert not list(tmp_path.glob("*.png"))


def test_without_matplotlib_the_remedy_is_named(
    write_arrays: WriteArrays, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqbraid.plots.figure.find_spec", lambda name: None)
    assert plot(write_arrays()) == 2
    assert "needs matplotlib; pip install matplotlib brings it" in capsys.readouterr().err


def test_of_several_ranks_one_draws(write_arrays: WriteArrays, tmp_path: Path, run_main: RunMain) -> None:
    arguments = ["plot", "data", str(write_arrays()), "--output", str(tmp_path / "x.png")]
    done = run_main(2, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("written") == done.stdout.count("18 sequences of 3 classes") == 1
    png_size(tmp_path / "x.png")
