"""Frames of a clip of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import CLIPS, fill, make_store, write_videos

from preprocess.samples import sample_frames
from seqbraid.data.contents import contents_of_store


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Return clips of twelve grey frames; the frame says by its shade which clip and which frame it is."""
    return write_videos(tmp_path / "videos")


def shade(clip: int, frame: int) -> float:
    return 20 * clip + 5 * frame


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
