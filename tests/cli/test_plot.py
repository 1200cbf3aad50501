"""`seqbraid plot data`: what is counted, what is sampled, and the picture that comes of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from shared_ranks import RunMain
from stores import F, fill, make_store, many_classes, write_videos

from seqbraid.cli.main import main

WriteArrays = Callable[..., Path]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list into which every figure goes that is saved."""
    figures: list[Any] = []
    monkeypatch.setattr(
        "seqbraid.plots.contents.save_figure", lambda figure, path: figures.append((figure, path))
    )
    return figures


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return clips of twelve grey frames; the frame says by its shade which clip and which frame it is."""
    return write_videos(tmp_path / "videos")


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
