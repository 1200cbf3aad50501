from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder
from preprocess.frame_stream import ClipEnded, ClipFailed, Event, Frame, FrameStream

MakeVideo = Callable[..., Path]
PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


class DrawnClips:
    """A decoder of clips that are named for how many frames they have, and whether they fail then."""

    def __init__(self) -> None:
        self.warning: str | None = None

    def clip(self, path: Path) -> Generator[np.ndarray, None, None]:
        frames, kind = path.name.split(" ")
        for number in range(int(frames)):
            yield np.full((1, 1, 3), number, dtype=np.uint8)
        if kind == "fails":
            raise DecodeError(f"{path}: drawn to fail")
        self.warning = f"warning of {frames}" if kind == "warns" else None

    def interrupt(self) -> None:
        pass

    def stop(self) -> None:
        pass


def next_event(stream: FrameStream) -> Event:
    event = stream.next(PATIENCE_S)
    assert event is not None
    return event


def events_of(stream: FrameStream, clips: int) -> dict[int, list[Event]]:
    """Take events until so many clips have ended, and sort them by clip."""
    events: dict[int, list[Event]] = {}
    waiting = stream.waiting
    for ended in range(clips):
        while isinstance(event := next_event(stream), Frame):
            assert stream.waiting == waiting - ended
            events.setdefault(event.task, []).append(event)
        assert stream.waiting == waiting - ended - 1
        events.setdefault(event.task, []).append(event)
    assert stream.next(0) is None
    return events


CLIPS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["ends", "warns", "fails"])), max_size=8)


@settings(max_examples=50, deadline=None)
@given(CLIPS, st.integers(1, 3), st.integers(1, 5))
def test_every_clip_comes_whole_and_in_order(clips: list[tuple[int, str]], decoders: int, ahead: int) -> None:
    with FrameStream([DrawnClips() for _ in range(decoders)], ahead) as stream:
        for task, (frames, kind) in enumerate(clips):
            stream.submit(task, f"{frames} {kind}")
        assert stream.waiting == len(clips)
        events = events_of(stream, len(clips))
    assert sorted(events) == list(range(len(clips)))
    for task, (frames, kind) in enumerate(clips):
        *images, end = events[task]
        assert [int(event.image[0, 0, 0]) for event in images] == list(range(frames))
        if kind == "fails":
            assert isinstance(end, ClipFailed)
            assert str(end.error) == f"{frames} fails: drawn to fail"
        else:
            assert end == ClipEnded(task, f"warning of {frames}" if kind == "warns" else None)


def test_one_decoder_takes_the_clips_as_they_were_submitted() -> None:
    with FrameStream([DrawnClips()], 2) as stream:
        for task in (5, 3, 9):
            stream.submit(task, "4 ends")
        order = [next_event(stream).task for _ in range(15)]
    assert order == [5] * 5 + [3] * 5 + [9] * 5


def test_no_more_than_the_room_ahead_is_decoded() -> None:
    class Counting(DrawnClips):
        given = 0

        def clip(self, path: Path) -> Generator[np.ndarray, None, None]:
            for image in super().clip(path):
                self.given += 1
                yield image

    decoder = Counting()
    with FrameStream([decoder], 3) as stream:
        stream.submit(0, "100 ends")
        for taken in range(1, 20):
            next_event(stream)
            # The room, and the one that waits for room.
            assert decoder.given <= taken + 4


def test_nothing_within_the_time_is_none() -> None:
    with FrameStream([DrawnClips()], 3) as stream:
        assert stream.next(0) is None
        assert stream.next(0.01) is None


def test_another_error_reaches_whoever_waits_for_frames() -> None:
    class Broken(DrawnClips):
        def clip(self, path: Path) -> Generator[np.ndarray, None, None]:
            yield from super().clip(path)
            raise RuntimeError("a defect")

    with FrameStream([Broken()], 1) as stream:
        stream.submit(0, "3 ends")
        for _ in range(3):
            assert isinstance(next_event(stream), Frame)
        with pytest.raises(RuntimeError, match="a defect"):
            next_event(stream)


def test_errors_that_nobody_waited_for_do_not_hinder_the_end() -> None:
    class Broken(DrawnClips):
        def clip(self, path: Path) -> Generator[np.ndarray, None, None]:
            raise RuntimeError("a defect")

    with FrameStream([Broken() for _ in range(3)], 1) as stream:
        for task in range(3):
            stream.submit(task, "1 ends")


class Silent(DrawnClips):
    """Decodes nothing and waits to be interrupted, unless no clip has been begun by then."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.interrupted = threading.Event()
        self.heard = threading.Event()

    def clip(self, path: Path) -> Generator[np.ndarray, None, None]:
        self.asked.set()
        # An interruption that comes before there is a process to interrupt has no effect.
        self.interrupted.wait(PATIENCE_S)
        self.interrupted.clear()
        if self.interrupted.wait(PATIENCE_S):
            self.heard.set()
            raise DecodeError(f"{path}: interrupted")
        yield np.zeros((1, 1, 3), dtype=np.uint8)

    def interrupt(self) -> None:
        self.interrupted.set()


def test_the_end_interrupts_a_decoder_that_was_about_to_begin() -> None:
    decoder = Silent()
    with FrameStream([decoder], 1) as stream:
        stream.submit(0, "a")
        assert decoder.asked.wait(PATIENCE_S)
    assert decoder.heard.is_set()


def test_leaving_in_the_middle_of_a_clip_leaves_the_decoders_fit_for_the_next(make_video: MakeVideo) -> None:
    long, other = make_video("long.avi", frames=300), make_video("other.avi", frames=3, seed=1)
    expected = decode_clip(other, 300, 64).frames
    with Decoder(frames=300, size=64) as first, Decoder(frames=300, size=64) as second:
        for taken in (0, 1, 5):
            with FrameStream([first, second], 4) as stream:
                for task in range(4):
                    stream.submit(task, long)
                for _ in range(taken):
                    assert isinstance(next_event(stream), Frame)
            for decoder in (first, second):
                np.testing.assert_array_equal(np.stack(list(decoder.clip(other))), expected)


def test_leaving_before_an_end_was_taken_leaves_the_decoder_fit_for_the_next(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=3)
    with Decoder(frames=3, size=32) as decoder:
        for _ in range(3):
            with FrameStream([decoder], 4) as stream:
                stream.submit(0, path)
                for _ in range(3):
                    assert isinstance(next_event(stream), Frame)
                time.sleep(0.02)  # the decoder is done with it, most likely
            assert len(list(decoder.clip(path))) == 3


def test_decoders_that_are_done_are_left_running(make_video: MakeVideo) -> None:
    path = make_video("a.avi", frames=3)
    with Decoder(frames=3, size=32) as decoder:
        processes = []
        for _ in range(2):
            with FrameStream([decoder], 4) as stream:
                stream.submit(0, path)
                assert len(events_of(stream, 1)[0]) == 4
            processes.append(decoder._process)
    assert processes[0] is processes[1] is not None
