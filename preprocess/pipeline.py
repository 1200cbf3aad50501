"""Clips to features: decoding ahead in processes of their own, and a thread of the network for each batch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.backbones import BATCH, Backbone
from preprocess.batch_pool import BatchPool
from preprocess.decode import DecodeError
from preprocess.decoder import Decoder
from preprocess.frame_batches import FrameBatches
from preprocess.frame_stream import ClipEnded, ClipFailed, Frame, FrameStream
from seqbraid.comm import SingleProcess, TaskQueue
from seqbraid.options.extraction import Sampling

__all__ = ["ClipResult", "Sampling", "clip_features", "make_decoders"]

# For each thread so many batches are decoded while it works, and clips are asked for before they are needed.
_BATCHES_AHEAD = 2
_CLIPS_AHEAD = 3
# A core decodes video of 1920 x 1080 pixels about four times as fast as another one runs ResNet18.
_THREADS_A_DECODER = 4
_POLL_S = 0.02


@dataclass(frozen=True)
class ClipResult:
    """What became of clip number `task`: its features (n, F) float32, or the error that it ended with."""

    task: int
    features: npt.NDArray[np.float32] | None
    warning: str | None
    error: DecodeError | None


def make_decoders(sampling: Sampling, threads: int) -> list[Decoder]:
    """Return as many decoders as keep a network on `threads` threads busy."""
    return [Decoder(**vars(sampling)) for _ in range(1 + threads // _THREADS_A_DECODER)]


def clip_features(
    paths: Sequence[str | os.PathLike[str]],
    backbone: Backbone,
    sampling: Sampling,
    queue: TaskQueue | None = None,
    tick: Callable[[], object] | None = None,
    decoders: Sequence[Decoder] | None = None,
) -> Iterator[ClipResult]:
    """Give the result of each clip of `paths` as it is done, in any order.

    With `queue` (of as many tasks as `paths`), the ranks share the clips; every rank iterates to the end. A
    clip counts as done in the queue when the next result is asked for, that is, after the caller has put it
    away. `tick` is called many times a second. `decoders`, made with the same sampling, are used and left
    running (default: some of its own). Features do not depend on the order of clips or on the ranks. Until it
    ends, or is closed, torch has one thread in the caller's: the network has the others.
    """
    queue = TaskQueue(SingleProcess(), len(paths)) if queue is None else queue
    warnings: dict[int, str | None] = {}
    results: deque[ClipResult] = deque()
    with ExitStack() as stack:
        pool = stack.enter_context(BatchPool(backbone.batch))
        batches = FrameBatches(pool, sampling.size)
        if decoders is None:
            decoders = [stack.enter_context(decoder) for decoder in make_decoders(sampling, pool.threads)]
        stream = stack.enter_context(FrameStream(decoders, _BATCHES_AHEAD * pool.threads * BATCH))
        done = frames = 0
        while not queue.finished:
            wanted = max(0, _CLIPS_AHEAD + len(decoders) - stream.waiting)
            for task in queue.exchange(wanted, done, frames):
                stream.submit(task, paths[task])
            done = frames = 0
            if tick is not None:
                tick()
            _fill(batches, stream, warnings, results)
            nothing_more = queue.exhausted and not stream.waiting
            if (batches.full or (nothing_more and len(batches))) and not batches.busy:
                batches.send()
            # Frames are waited for above; with a full batch, or none to come, there is time to wait here.
            batches.collect(_POLL_S if batches.full or nothing_more else 0.0)
            while batches.finished:
                task, features = batches.finished.popleft()
                results.append(ClipResult(task, features, warnings.pop(task), None))
            while results:
                result = results.popleft()
                yield result
                done += 1
                frames += 0 if result.features is None else len(result.features)


def _fill(
    batches: FrameBatches,
    stream: FrameStream,
    warnings: dict[int, str | None],
    results: deque[ClipResult],
) -> None:
    """Take frames until the batch is full, or none has come for a moment."""
    while not batches.full:
        event = stream.next(_POLL_S)
        if event is None:
            return
        if isinstance(event, Frame):
            batches.add(event.task, event.image)
        elif isinstance(event, ClipEnded):
            warnings[event.task] = event.warning
            batches.end(event.task)
        elif isinstance(event, ClipFailed):
            batches.drop(event.task)
            results.append(ClipResult(event.task, None, None, event.error))
