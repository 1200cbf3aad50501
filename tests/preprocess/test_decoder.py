from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder

MakeVideo = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


def decoded(decoder: Decoder, path: Path) -> np.ndarray:
    return np.stack(list(decoder.clip(path)))


def decoder_pid(decoder: Decoder) -> int:
    assert decoder._process is not None
    return decoder._process.pid


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("frames", "size", "stride"), [(6, 32, 1), (100, 50, 1), (3, 33, 4), (1, 32, 10)])
def test_frames_and_warnings_are_those_of_decode_clip(
    make_video: MakeVideo, frames: int, size: int, stride: int
) -> None:
    paths = [
        make_video(f"{number}.avi", frames=count, size=shape, seed=number)
        for number, (count, shape) in enumerate([(1, (48, 40)), (7, (50, 50)), (30, (33, 64)), (8, (64, 24))])
    ]
    paths[2].write_bytes(paths[2].read_bytes()[:9000])
    with Decoder(frames, size, stride) as decoder:
        for path in paths:
            expected = decode_clip(path, frames, size, stride)
            np.testing.assert_array_equal(decoded(decoder, path), expected.frames)
            assert decoder.warning == expected.warning


def test_a_warning_is_of_its_own_clip(make_video: MakeVideo) -> None:
    whole, truncated = make_video("whole.avi", frames=40), make_video("truncated.avi", frames=40)
    truncated.write_bytes(truncated.read_bytes()[:20000])
    with Decoder(frames=100, size=32) as decoder:
        for _ in range(2):
            count = len(decoded(decoder, truncated))
            assert decoder.warning == f"{count} of 40 frames decoded"
            assert len(decoded(decoder, whole)) == 40
            assert decoder.warning is None
        decoded(decoder, truncated)
        with pytest.raises(DecodeError):
            list(decoder.clip(whole.with_name("missing.avi")))
        assert decoder.warning is None


def test_files_that_cannot_be_decoded_have_decode_clips_reasons(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    good = make_video("good.avi", frames=3)
    odd = os.fsdecode(b"caf\xe9 \n.avi")
    for name, content in (("empty.avi", b""), ("text.avi", b"this is no video\n" * 50), (odd, b"")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.avi").mkdir()
    with Decoder(frames=3, size=32) as decoder:
        expected = decoded(decoder, good)
        pid = decoder_pid(decoder)
        for name in ("empty.avi", "text.avi", odd, "folder.avi", "missing.avi"):
            with pytest.raises(DecodeError) as truth:
                decode_clip(tmp_path / name, 3, 32)
            with pytest.raises(DecodeError) as caught:
                list(decoder.clip(tmp_path / name))
            assert str(caught.value) == str(truth.value)
            np.testing.assert_array_equal(decoded(decoder, good), expected)
        assert decoder_pid(decoder) == pid


def test_names_need_not_be_text_and_are_taken_from_the_folder_of_the_call(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"caf\xe9\n%03d.avi")
    make_video("one/clip.avi", frames=2)
    make_video("two/clip.avi", frames=3).with_name(odd).symlink_to("clip.avi")
    with Decoder(frames=9, size=32) as decoder:
        for folder, name, count in (("one", "clip.avi", 2), ("two", "clip.avi", 3), ("two", odd, 3)):
            monkeypatch.chdir(tmp_path / folder)
            assert len(decoded(decoder, Path(name))) == count


def test_a_clip_given_up_in_the_middle_leaves_nothing_for_the_next(make_video: MakeVideo) -> None:
    # More frames than fit into the pipe between the processes.
    long, other = make_video("long.avi", frames=60), make_video("other.avi", frames=4, seed=1)
    with Decoder(frames=60, size=64) as decoder:
        for taken in (1, 3, 30):
            frames = decoder.clip(long)
            for _ in range(taken):
                next(frames)
            frames.close()
            np.testing.assert_array_equal(decoded(decoder, other), decode_clip(other, 60, 64).frames)


def test_no_process_is_left_after_stop(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=60)
    decoder = Decoder(frames=60, size=64)
    decoder.stop()  # nothing to stop yet
    with decoder:
        decoded(decoder, path)
        first = decoder_pid(decoder)
        assert lives(first)
        decoder.stop()
        assert not lives(first)
        frames = decoder.clip(path)
        next(frames)
        second = decoder_pid(decoder)
    assert not lives(second)
    frames.close()


def test_stop_does_not_wait_for_a_process_that_the_system_cannot_end() -> None:
    # As one that reads from a server that is gone: even SIGKILL has to wait for the read.
    class Stuck:
        stdin, stdout, killed = io.BytesIO(), io.BytesIO(), False

        def kill(self) -> None:
            self.killed = True

        def wait(self, timeout: float | None = None) -> int:
            assert timeout is not None
            raise subprocess.TimeoutExpired("decoder", timeout)

    decoder, process = Decoder(frames=3, size=32), Stuck()
    decoder._process = process
    decoder.stop()
    assert process.killed
    assert process.stdin.closed
    assert process.stdout.closed


PARENT = """
import sys, time
from preprocess.decoder import Decoder
decoder = Decoder(frames=60, size=64)
frames = decoder.clip(sys.argv[1])
next(frames)
if sys.argv[2] == "idle":
    list(frames)
print(decoder._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "in a clip"])
def test_the_process_ends_with_its_parent(make_video: MakeVideo, state: str) -> None:
    command = [sys.executable, "-c", PARENT, str(make_video("a.avi", frames=60)), state]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert lives(pid)
    parent.kill()
    try:
        # Standard error is open until the last process that inherited it has ended.
        _, said = parent.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        raise
    assert said == b""


def test_files_of_the_users_folder_are_not_taken_for_modules(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("preprocess.py", "cv2.py", "queue.py"):
        (tmp_path / name).write_text("raise RuntimeError('not this one')")
    path = make_video("a.avi", frames=3)
    monkeypatch.chdir(tmp_path)
    with Decoder(frames=3, size=32) as decoder:
        assert len(decoded(decoder, path)) == 3


def test_a_process_that_cannot_work_says_so_and_gives_its_exit_code(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = make_video("a.avi", frames=3)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cv2.py").write_text("raise ImportError('no OpenCV today')")
    with Decoder(frames=3, size=32) as decoder, monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "broken"))
        for _ in range(2):
            with pytest.raises(DecodeError, match=r"a\.avi: the decoder ended with exit code 1"):
                list(decoder.clip(path))
            assert "no OpenCV today" in capfd.readouterr().err
        patch.undo()
        assert len(decoded(decoder, path)) == 3


LIMITS = """
import resource, sys
from preprocess.decoder_process import _limit_memory
soft, hard = int(sys.argv[1]) << 30, resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (soft if soft else hard, hard))
_limit_memory()
print(resource.getrlimit(resource.RLIMIT_AS)[0] / 2**30)
"""


@pytest.mark.parametrize(("before", "after"), [(0, 6), (7, 6), (5, 5)])
def test_memory_is_limited_but_a_lower_limit_is_kept(before: int, after: int) -> None:
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("memory is limited for this process already")
    command = [sys.executable, "-c", LIMITS, str(before)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(result.stdout) == after
