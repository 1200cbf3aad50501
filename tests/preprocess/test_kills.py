from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder

MakeVideo = Callable[..., Path]


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


def test_frames_passed_over_have_time_of_their_own(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=102)
    with Decoder(frames=2, size=32, stride=101, stall_s=0.0) as decoder:
        assert len(list(decoder.clip(path))) == 2
