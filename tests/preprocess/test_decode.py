from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.decode import DecodeError, decode_clip


def test_the_first_frames_are_kept(make_video: Callable[..., Path]) -> None:
    path = make_video("a.avi", frames=6)
    whole, start = decode_clip(path, 100, 32), decode_clip(path, 4, 32)
    assert whole.frames.shape == (6, 32, 32, 3)
    assert whole.frames.dtype == np.uint8
    assert (whole.declared, whole.warning, start.warning) == (6, None, None)
    np.testing.assert_array_equal(start.frames, whole.frames[:4])


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
from preprocess.decode import DecodeError, decode_clip
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
