from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_modules import load_script

from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder
from preprocess.extract import ExtractOptions, extract
from preprocess.pipeline import Sampling
from seqbraid.comm import SingleProcess
from seqbraid.data.store import FeatureStore

MakeVideo = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]

watched_job = load_script("watched_job")

# Small, but enough to do that a kill can come between.
CLIPS, FRAMES, SIZE = 12, 24, 128
OPTIONS = ExtractOptions("squeezenet1_1", "random:0", "pool", sampling=Sampling(FRAMES, SIZE))
ARGUMENTS = shlex.split(
    f"--backbone squeezenet1_1 --weights random:0 --layer pool --frames {FRAMES} --size {SIZE} --threads 1"
)
linux_only = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are sought in /proc"
)


@pytest.fixture
def clips(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Return a data set of two classes with twelve clips."""
    for number in range(CLIPS):
        make_video(f"videos/{'ab'[number % 2]}/clip {number:02d}.avi", frames=FRAMES - number, seed=number)
    return tmp_path / "videos"


def start(videos: Path, out: Path, *more: str) -> Any:
    """Start the extraction on two ranks."""
    return watched_job.WatchedJob(["preprocess", str(videos), str(out), *ARGUMENTS, *more], 2, out.parent)


def done_clips(out: Path) -> set[int]:
    if not (out / "store.json").exists():
        return set()
    return set(np.flatnonzero(FeatureStore.open(out, require_complete=False).lengths > 0).tolist())


def wait_for_more_than(count: int, out: Path, job: Any) -> None:
    """Wait until more than `count` clips are done."""
    while len(done_clips(out)) <= count:
        assert job.running(), f"the job ended before it could be killed: {job.errors}"
        time.sleep(0.01)


def ranks_of(job: Any) -> list[Any]:
    return [process for process in job.processes() if process.kind == "rank"]


def require_unharmed(out: Path, before: set[int]) -> set[int]:
    """Return the clips that are done: those of before among them, all of them whole."""
    after = done_clips(out)
    assert before <= after
    assert len(after) < CLIPS
    assert FeatureStore.open(out, require_complete=False).damaged() == []
    return after


@linux_only
def test_a_job_killed_twice_ends_with_the_bytes_of_one_left_alone(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "killed"
    one_rank = start(clips, out)
    wait_for_more_than(0, out, one_rank)
    one_rank.kill(ranks_of(one_rank)[1:])
    assert one_rank.wait(15) != 0
    assert one_rank.left_over(5) == []
    first = require_unharmed(out, set())

    all_ranks = start(clips, out)
    wait_for_more_than(len(first), out, all_ranks)
    all_ranks.kill(ranks_of(all_ranks))
    assert all_ranks.wait(15) != 0
    assert all_ranks.left_over(5) == []
    second = require_unharmed(out, first)

    capsys.readouterr()
    extract(clips, out, OPTIONS, SingleProcess())
    said = capsys.readouterr().out
    assert f" {len(second)} there already;" in said
    assert f"\n{CLIPS - len(second)} clips, " in said
    extract(clips, tmp_path / "whole", OPTIONS, SingleProcess())
    for name in ("store.json", "features.npy", "lengths.npy", "checksums.npy", "failed.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@linux_only
def test_strict_ends_the_job_where_one_rank_fails_and_the_other_waits(clips: Path, tmp_path: Path) -> None:
    # The smallest file comes last, when the other rank may have nothing to do any more.
    broken = clips / "a" / "broken.avi"
    broken.write_bytes(b"")
    job = start(clips, tmp_path / "out", "--strict")
    assert job.wait(120) == 2
    assert job.left_over(5) == []
    assert job.errors.count("error:") == job.errors.count(str(broken)) == 1
    assert f"seqbraid preprocess: error: {broken}: the file is empty" in job.errors


def decoder_pid(decoder: Decoder) -> int:
    assert decoder._process is not None
    return decoder._process.pid


def test_a_decoder_killed_between_two_clips_harms_neither(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=5)
    with Decoder(frames=5, size=32) as decoder:
        first = np.stack(list(decoder.clip(path)))
        os.kill(decoder_pid(decoder), signal.SIGKILL)
        os.waitid(os.P_PID, decoder_pid(decoder), os.WEXITED | os.WNOWAIT)
        second = np.stack(list(decoder.clip(path)))
    np.testing.assert_array_equal(first, decode_clip(path, 5, 32).frames)
    np.testing.assert_array_equal(second, first)


def test_a_decoder_killed_within_a_clip_costs_that_clip_alone(make_video: MakeVideo) -> None:
    # More than the pipe between the processes holds.
    path = make_video("a.avi", frames=60)
    with Decoder(frames=60, size=64) as decoder:
        frames = decoder.clip(path)
        next(frames)
        os.kill(decoder_pid(decoder), signal.SIGKILL)
        with pytest.raises(DecodeError, match=r"a\.avi: the decoder crashed on it \(SIGKILL\)"):
            list(frames)
        assert len(list(decoder.clip(path))) == 60


def test_a_decoder_that_stands_still_costs_that_clip_alone(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=60)
    with Decoder(frames=60, size=64) as decoder:
        frames = decoder.clip(path)
        next(frames)
        decoder._stall_s = 0.2  # only now, since its start may take longer
        os.kill(decoder_pid(decoder), signal.SIGSTOP)
        with pytest.raises(DecodeError, match=r"a\.avi: no frame was decoded within 0 s"):
            list(frames)
        decoder._stall_s = 60.0
        assert len(list(decoder.clip(path))) == 60


HOLDER = """
import sys, time
from preprocess.decoder import Decoder
with Decoder(frames=60, size=64) as decoder:
    frames = decoder.clip(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        next(frames, None)
    print("now", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("taken", [1, 61], ids=["within a clip", "between two clips"])
def test_a_decoder_does_not_outlive_its_killed_rank(make_video: MakeVideo, taken: int) -> None:
    path = make_video("a.avi", frames=60)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(taken)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"now\n"
        holder.kill()
        # The decoder has the same standard error, which therefore ends when it does.
        assert holder.communicate(timeout=15)[1] == b""


def test_frames_passed_over_have_time_of_their_own(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=102)
    with Decoder(frames=2, size=32, stride=101, stall_s=0.0) as decoder:
        assert len(list(decoder.clip(path))) == 2
