from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.backbones import BATCH
from preprocess.batch_pool import BatchPool
from preprocess.frame_batches import FrameBatches

SIZE = 2
PATIENCE_S = 30.0


class Means:
    """A network whose feature of a frame is its mean, and which keeps the batches that it is given."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.batches.append(images)
        return images.reshape(len(images), -1).mean(1, dtype=np.float32)[:, np.newaxis]


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before, living = torch.get_num_threads(), threading.enumerate()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    assert threading.enumerate() == living
    torch.set_num_threads(before)


def frame(task: int, number: int) -> np.ndarray:
    """A frame whose mean tells of which clip it is and which one."""
    return np.full((SIZE, SIZE, 3), 16 * task + number, dtype=np.uint8)


def expected(task: int, frames: int) -> np.ndarray:
    return 16.0 * task + np.arange(frames, dtype=np.float32)[:, np.newaxis]


def collect_all(batches: FrameBatches) -> None:
    while batches._under_way:
        batches.collect(PATIENCE_S)


@st.composite
def interleaved_clips(draw: st.DrawFn) -> tuple[list[int], list[bool], list[int]]:
    """Lengths of clips, which of them are dropped at their end, and whose frame comes when."""
    lengths = draw(st.lists(st.integers(1, 15), max_size=12))
    dropped = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    turns = [task for task, length in enumerate(lengths) for _ in range(length)]
    return lengths, dropped, draw(st.permutations(turns)) if draw(st.booleans()) else turns


@settings(max_examples=60, deadline=None)
@given(interleaved_clips(), st.sampled_from([1, 3]))
def test_every_clip_gets_its_own_rows_in_order(
    clips: tuple[list[int], list[bool], list[int]], threads: int
) -> None:
    lengths, dropped, turns = clips
    network = Means()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with BatchPool(network) as pool:
            batches = FrameBatches(pool, SIZE)
            given_frames = dict.fromkeys(range(len(lengths)), 0)
            for task in turns:
                assert not batches.full
                batches.add(task, frame(task, given_frames[task]))
                given_frames[task] += 1
                if given_frames[task] == lengths[task]:
                    batches.drop(task) if dropped[task] else batches.end(task)
                if batches.full:
                    batches.send()
                batches.collect(0.0)
            if len(batches):
                batches.send()
            collect_all(batches)
    finally:
        torch.set_num_threads(before)
    finished = dict(batches.finished)
    assert sorted(finished) == [task for task in range(len(lengths)) if not dropped[task]]
    for task, features in finished.items():
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, expected(task, lengths[task]))
    assert len(network.batches) == -(-len(turns) // BATCH)
    assert not batches._rows  # nor anything else of clips that are done or dropped
    assert not batches._frames
    assert not batches._ended
    assert all(images.shape == (BATCH, SIZE, SIZE, 3) for images in network.batches)


def test_free_places_are_blank(threads: int) -> None:
    network = Means()
    with BatchPool(network) as pool:
        batches = FrameBatches(pool, SIZE)
        for count in (BATCH, 3):
            for number in range(count):
                batches.add(count, frame(1, number))
            batches.send()
            batches.end(count)
        collect_all(batches)
    first, second = sorted(network.batches, key=lambda images: -int(images.astype(int).sum()))
    assert (first > 0).all()
    assert (second[:3] > 0).all()
    assert not second[3:].any()


def test_busy_is_one_batch_more_than_there_are_threads(threads: int) -> None:
    go_on = threading.Event()

    def wait(images: np.ndarray) -> np.ndarray:
        assert go_on.wait(PATIENCE_S)
        return images.reshape(len(images), -1).mean(1, dtype=np.float32)[:, np.newaxis]

    with BatchPool(wait) as pool:
        batches = FrameBatches(pool, SIZE)
        for number in range(threads + 1):
            assert not batches.busy
            batches.add(0, frame(0, number))
            batches.send()
        assert batches.busy
        batches.end(0)
        batches.collect(0.0)
        assert not batches.finished
        go_on.set()
        collect_all(batches)
        assert not batches.busy
    [(task, features)] = batches.finished
    assert task == 0
    np.testing.assert_array_equal(features, expected(0, threads + 1))


def test_an_error_of_the_network_is_raised_where_results_are_taken(threads: int) -> None:
    def fail(images: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    with BatchPool(fail) as pool:
        batches = FrameBatches(pool, SIZE)
        batches.add(0, frame(0, 0))
        batches.send()
        with pytest.raises(RuntimeError, match="out of memory"):
            batches.collect(PATIENCE_S)


def test_torch_has_one_thread_in_each_thread_of_the_pool(threads: int) -> None:
    all_there = threading.Barrier(threads)

    def count(images: np.ndarray) -> np.ndarray:
        all_there.wait(PATIENCE_S)  # so that every thread takes one
        return np.array([torch.get_num_threads()], dtype=np.float32)

    with BatchPool(count) as pool:
        assert pool.threads == threads
        futures = [pool.submit(np.zeros(1, dtype=np.uint8)) for _ in range(threads)]
        assert [future.result().tolist() for future in futures] == [[1.0]] * threads
