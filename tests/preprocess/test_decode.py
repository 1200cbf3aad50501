from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess import decode
from preprocess.decode import DecodeError, VideoReader, decode_clip

DECLARED = 40


def test_the_first_frames_are_kept(make_video: Callable[..., Path]) -> None:
    path = make_video("a.avi", frames=6)
    whole, start = decode_clip(path, 100, 32), decode_clip(path, 4, 32)
    assert whole.frames.shape == (6, 32, 32, 3)
    assert whole.frames.dtype == np.uint8
    assert (whole.declared, whole.warning, start.warning) == (6, None, None)
    np.testing.assert_array_equal(start.frames, whole.frames[:4])


@pytest.fixture(scope="module")
def whole_and_truncated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video of `DECLARED` frames, and the first half of the same file."""
    folder = tmp_path_factory.mktemp("videos")
    whole, truncated = folder / "whole.avi", folder / "truncated.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (32, 32))
    for number in range(DECLARED):
        writer.write(np.full((32, 32, 3), 6 * number, dtype=np.uint8))
    writer.release()
    data = whole.read_bytes()
    truncated.write_bytes(data[: len(data) // 2])
    return whole, truncated


@settings(max_examples=40, deadline=None)
@given(st.integers(1, DECLARED + 5), st.integers(1, DECLARED + 5), st.booleans())
def test_a_stride_takes_every_so_manyth_of_the_frames(
    whole_and_truncated: tuple[Path, Path], frames: int, stride: int, cut_off: bool
) -> None:
    path = whole_and_truncated[cut_off]
    every = decode_clip(path, DECLARED, 32).frames
    clip = decode_clip(path, frames, 32, stride)
    np.testing.assert_array_equal(clip.frames, every[::stride][:frames])
    promised = min(frames, len(range(0, DECLARED, stride)))
    kept = len(clip.frames)
    assert clip.warning == (None if kept == promised else f"{kept} of {promised} frames decoded")
    assert cut_off == (len(every) < DECLARED)


def test_a_reader_counts_what_it_gave(make_video: Callable[..., Path]) -> None:
    with VideoReader(make_video("a.avi", frames=6), 4, 32) as reader:
        assert (reader.declared, reader.kept) == (6, 0)
        for number, image in enumerate(reader, 1):
            assert image.shape == (32, 32, 3)
            assert reader.kept == number
        assert (reader.kept, reader.warning) == (4, None)


def test_frames_too_large_for_a_video_are_refused(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video("a.avi", frames=2, size=(48, 40))
    monkeypatch.setattr(decode, "_MOST_PIXELS", 48 * 40)
    assert len(decode_clip(path, 2, 32).frames) == 2
    monkeypatch.setattr(decode, "_MOST_PIXELS", 48 * 40 - 1)
    with pytest.raises(DecodeError, match=r"a\.avi: frames of 48 x 40 pixels are too large$"):
        decode_clip(path, 2, 32)


def test_a_frame_beyond_the_memory_ends_the_clip_there(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video("a.avi", frames=6)
    room = 3

    def square(image: np.ndarray, size: int) -> np.ndarray:
        nonlocal room
        room -= 1
        if room < 0:
            raise MemoryError
        return image

    monkeypatch.setattr(decode, "_square", square)
    clip = decode_clip(path, 6, 32)
    assert (len(clip.frames), clip.warning) == (3, "3 of 6 frames decoded")
    with pytest.raises(DecodeError, match=r"a\.avi: not enough memory for a frame"):
        decode_clip(path, 6, 32)


def test_a_name_that_is_not_text_needs_a_folder_for_temporary_files(
    make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video("a.avi", frames=2).rename(tmp_path / os.fsdecode(b"\xff.avi"))
    assert len(decode_clip(path, 2, 32).frames) == 2
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(DecodeError, match="No such file or directory"):
        decode_clip(path, 2, 32)


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (48, 48))
    writer.write(np.full((48, 48, 3), (0, 0, 255), dtype=np.uint8))
    writer.release()
    red, green, blue = decode_clip(path, 1, 32).frames[0].reshape(-1, 3).mean(0)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(("size", "method"), [(32, cv2.INTER_AREA), (100, cv2.INTER_LINEAR)])
def test_frames_are_resized_to_a_square(make_video: Callable[..., Path], size: int, method: int) -> None:
    path = make_video("a.avi", frames=1, size=(64, 40))
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    image = capture.read()[1]
    expected = cv2.resize(image, (size, size), interpolation=method)[:, :, ::-1]
    np.testing.assert_array_equal(decode_clip(path, 1, size).frames[0], expected)


def test_a_truncated_video_keeps_its_first_frames_and_says_so(make_video: Callable[..., Path]) -> None:
    path = make_video("a.avi", frames=40)
    whole = decode_clip(path, 100, 32)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clip = decode_clip(path, 100, 32)
    assert 10 < len(clip.frames) < 30
    assert clip.warning == f"{len(clip.frames)} of 40 frames decoded"
    # The last frame may be half a picture.
    np.testing.assert_array_equal(clip.frames[:-1], whole.frames[: len(clip.frames) - 1])
    assert decode_clip(path, 5, 32).warning is None


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_garbage_frame_count_is_not_believed(make_video: Callable[..., Path], count: int) -> None:
    path = make_video("a.avi", frames=5)
    data = bytearray(path.read_bytes())
    for header, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = data.index(header) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 5
        data[at : at + 4] = count.to_bytes(4, "little")
    path.write_bytes(data)
    clip = decode_clip(path, 100, 32)
    assert len(clip.frames) == 5
    assert clip.warning is None


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("this is no video\n" * 50)


def write_header_only(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (48, 48))
    writer.write(np.zeros((48, 48, 3), dtype=np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_nothing, "the file is empty"),
        (write_text, "cannot be opened as a video"),
        (write_header_only, "cannot be opened as a video|no frame could be decoded"),
        (Path.mkdir, "Is a directory"),
        (lambda path: None, "No such file"),
    ],
)
def test_a_file_without_frames_is_named_with_the_reason(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "broken clip.avi"
    write(path)
    with pytest.raises(DecodeError, match=rf"broken clip\.avi: ({reason})") as caught:
        decode_clip(path, 8, 32)
    assert "\n" not in str(caught.value)


def test_opencv_and_ffmpeg_keep_silent_about_damaged_files(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    truncated = make_video("a.avi", frames=20)
    truncated.write_bytes(truncated.read_bytes()[:5000])
    write_text(tmp_path / "text.avi")
    script = """
import sys
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess import decode
from preprocess.decode import DecodeError, VideoReader, decode_clip

DECLARED = 40
for path in sys.argv[1:]:
    try:
        decode_clip(path, 100, 32)
    except DecodeError:
        pass
"""
    command = [sys.executable, "-c", script, str(truncated), str(tmp_path / "text.avi")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (result.stdout, result.stderr) == ("", "")


def test_real_clips_decode(shared_data: Path) -> None:
    for path in sorted((shared_data / "clips").iterdir()):
        clip = decode_clip(path, 16, 64)
        assert clip.frames.shape == (16, 64, 64, 3)
        assert clip.frames.std() > 5
