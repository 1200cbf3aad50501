from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocess.backbones import BATCH, Backbone, load_backbone
from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder
from preprocess.pipeline import ClipResult, Sampling, clip_features, make_decoders
from preprocess.unseen import features_of_clips
from seqbraid.comm import SingleProcess, TaskQueue

SAMPLING = Sampling(frames=20, size=32)
LENGTHS = (1, 2, 7, 8, 9, 16, 20, 40)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, torch_threads = threading.enumerate(), torch.get_num_threads()
    yield
    assert threading.enumerate() == threads
    assert torch.get_num_threads() == torch_threads


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Good clips of `LENGTHS` frames, then one that is cut off, an empty one, a text and a missing one."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    paths = []
    for number, frames in enumerate([*LENGTHS, 40]):
        paths.append(folder / f"{number}.avi")
        writer = cv2.VideoWriter(str(paths[-1]), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (48, 40))
        for _ in range(frames):
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            writer.write(cv2.resize(coarse, (48, 40), interpolation=cv2.INTER_CUBIC))
        writer.release()
    paths[-1].write_bytes(paths[-1].read_bytes()[:7000])
    (folder / "empty.avi").write_bytes(b"")
    (folder / "text.avi").write_text("this is no video\n" * 50)
    return [*paths, folder / "empty.avi", folder / "text.avi", folder / "missing.avi"]


class Sums:
    """Stands for a backbone: the features of a frame are the sums of its rows, which are exact."""

    def __init__(self) -> None:
        self.batches = 0

    def batch(self, frames: np.ndarray) -> np.ndarray:
        self.batches += 1
        return frames.sum((2, 3)).astype(np.float32)


def truth(path: Path, sampling: Sampling = SAMPLING) -> tuple[np.ndarray | None, str | None, str | None]:
    """Return frames, warning and error of a clip by the short way."""
    try:
        clip = decode_clip(path, sampling.frames, sampling.size, sampling.stride)
    except DecodeError as error:
        return None, None, str(error)
    return clip.frames, clip.warning, None


@pytest.fixture(scope="module")
def expected(paths: list[Path]) -> list[tuple[np.ndarray | None, str | None, str | None]]:
    return [truth(path) for path in paths]


def by_task(results: Iterator[ClipResult], count: int) -> list[ClipResult]:
    results_by_task = {result.task: result for result in results}
    assert sorted(results_by_task) == list(range(count))
    return [results_by_task[task] for task in range(count)]


@pytest.fixture(scope="module")
def decoders() -> Iterator[list[Decoder]]:
    decoders = make_decoders(SAMPLING, 4)
    yield decoders
    for decoder in decoders:
        decoder.stop()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.integers(0, len(LENGTHS) + 3), max_size=12), threads=st.sampled_from([1, 2, 4]))
def test_every_clip_has_its_own_features_warning_and_error(
    paths: list[Path],
    expected: list[tuple[np.ndarray | None, str | None, str | None]],
    decoders: list[Decoder],
    chosen: list[int],
    threads: int,
) -> None:
    backbone = Sums()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = by_task(
            clip_features([paths[index] for index in chosen], backbone, SAMPLING, decoders=decoders),
            len(chosen),
        )
    finally:
        torch.set_num_threads(before)
    total = 0
    for result, index in zip(results, chosen, strict=True):
        frames, warning, error = expected[index]
        assert result.warning == warning
        if frames is None:
            assert result.features is None
            assert str(result.error) == error
        else:
            assert result.error is None
            assert result.features is not None
            np.testing.assert_array_equal(result.features, frames.sum((2, 3)))
            total += len(frames)
    # Full batches, but for the last one.
    assert backbone.batches == -(-total // BATCH)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("squeezenet1_1", "random:0", "pool")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_features_are_those_of_the_clip_alone_bit_for_bit(
    paths: list[Path], backbone: Backbone, threads: int
) -> None:
    good = paths[: len(LENGTHS)]
    alone = [backbone.features(decode_clip(path, 20, 32).frames) for path in good]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for order in (range(len(good)), (6, 1, 7, 0, 0, 5, 2)):
            results = by_task(clip_features([good[index] for index in order], backbone, SAMPLING), len(order))
            for result, index in zip(results, order, strict=True):
                np.testing.assert_array_equal(result.features, alone[index])
    finally:
        torch.set_num_threads(before)


def test_a_clip_counts_as_done_only_when_the_caller_has_put_it_away(paths: list[Path]) -> None:
    queue = TaskQueue(SingleProcess(), len(LENGTHS))
    ticks: list[tuple[int, int]] = []
    results = clip_features(
        paths[: len(LENGTHS)], Sums(), SAMPLING, queue, lambda: ticks.append((queue.done, queue.units))
    )
    frames = 0
    for number, result in enumerate(results):
        assert result.features is not None
        assert queue.done <= number
        assert queue.units <= frames
        frames += len(result.features)
    assert (queue.done, queue.units) == (len(LENGTHS), frames)
    assert ticks == sorted(ticks)
    assert ticks[-1] == (len(LENGTHS), frames)


def test_decoders_of_the_caller_are_left_running(paths: list[Path], decoders: list[Decoder]) -> None:
    assert len(decoders) == 2
    processes = []
    for _ in range(2):
        by_task(clip_features(paths[:6], Sums(), SAMPLING, decoders=decoders), 6)
        processes.append([decoder._process for decoder in decoders])
        assert all(process is None or process.poll() is None for process in processes[-1])
    assert any(processes[0])
    assert all(before in (None, after) for before, after in zip(*processes, strict=True))


class DrawnClips:
    """A decoder of clips that are named for how many frames they have, and whether they are lost then."""

    warning = None

    def clip(self, path: Path) -> Iterator[np.ndarray]:
        frames, kind = path.name.split(" ")
        for number in range(int(frames)):
            yield np.full((32, 32, 3), number, dtype=np.uint8)
        if kind == "lost":
            raise DecodeError(f"{path}: the decoder crashed on it")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 25), st.sampled_from(["whole", "lost"])), max_size=15))
def test_clips_lost_after_some_frames_do_not_touch_the_others(clips: list[tuple[int, str]]) -> None:
    backbone = Sums()
    paths = [f"{frames} {kind}" for frames, kind in clips]
    found = clip_features(paths, backbone, SAMPLING, decoders=[DrawnClips(), DrawnClips()])
    for result, (frames, kind) in zip(by_task(found, len(clips)), clips, strict=True):
        if kind == "lost":
            assert result.features is None
            assert str(result.error) == f"{frames} lost: the decoder crashed on it"
        else:
            numbers = np.arange(frames, dtype=np.float32)[:, np.newaxis]
            np.testing.assert_array_equal(result.features, np.repeat(32 * 3 * numbers, 32, axis=1))
    assert backbone.batches == -(-sum(frames for frames, _ in clips) // BATCH)


def test_a_batch_waits_for_the_frames_of_a_slow_decoder() -> None:
    class Slow(DrawnClips):
        def clip(self, path: Path) -> Iterator[np.ndarray]:
            for image in super().clip(path):
                time.sleep(0.04)  # longer than the pipeline waits at a time
                yield image

    backbone = Sums()
    [result] = clip_features([f"{BATCH + 1} whole"], backbone, SAMPLING, decoders=[Slow()])
    assert result.features is not None
    assert len(result.features) == BATCH + 1
    assert backbone.batches == 2


def test_leaving_early_leaves_nothing_behind(paths: list[Path], backbone: Backbone) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    for taken in (0, 1, 3):
        results = clip_features(paths * 3, backbone, SAMPLING)
        for _ in range(taken):
            next(results)
        results.close()
        assert torch.get_num_threads() == before + 1
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith(("frame", "network"))
        ]
    torch.set_num_threads(before)


def test_an_error_of_the_network_reaches_the_caller(paths: list[Path]) -> None:
    def fail(frames: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(clip_features(paths, SimpleNamespace(batch=fail), SAMPLING))


def test_features_of_clips_come_in_the_order_of_the_list(
    paths: list[Path], backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    order = [7, 0, 8, 6, 0, 2]
    before = torch.get_num_threads()
    torch.set_num_threads(4)  # so many have two decoders, and clips overtake each other
    features = features_of_clips([paths[index] for index in order], backbone, Sampling(5, 40, 3))
    torch.set_num_threads(before)
    for each, index in zip(features, order, strict=True):
        frames, _, _ = truth(paths[index], Sampling(5, 40, 3))
        assert frames is not None
        np.testing.assert_array_equal(each, backbone.features(frames))
    assert caplog.messages == [f"{paths[8]}: {truth(paths[8], Sampling(5, 40, 3))[1]}"]
    assert features_of_clips([], backbone, Sampling(5, 40)) == []


def test_features_of_clips_raise_the_first_error_and_leave_nothing_behind(
    paths: list[Path], backbone: Backbone
) -> None:
    living = threading.enumerate()
    with pytest.raises(DecodeError, match=r"empty\.avi: the file is empty") as caught:
        features_of_clips([paths[9], *paths[:8]], backbone, Sampling(20, 32))
    # While the traceback keeps every frame of the call alive.
    assert caught.tb is not None
    assert threading.enumerate() == living
