"""Samples of a data set, one a class: frames of a clip, or the channels of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.data.contents import Contents

__all__ = ["ClipFrames", "Frames", "Lines", "SequenceLines", "evenly", "pick_classes", "sample_lines"]

_MOST_CLASSES = 12
_MOST_CHANNELS = 10


@dataclass(frozen=True)
class ClipFrames:
    """Frames of one clip: `images` (n, pixels, pixels, 3) uint8 RGB, their `numbers` in the file, from 0."""

    class_name: str
    clip: str
    numbers: list[int]
    images: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """A clip of each sampled class; `caption` tells which classes these are."""

    clips: list[ClipFrames]
    caption: str


@dataclass(frozen=True)
class SequenceLines:
    """One sequence: `values` (length, len(channels)) float32 of these `channels`."""

    class_name: str
    channels: list[int]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Lines:
    """A sequence of each sampled class; `caption` tells which classes and channels these are."""

    sequences: list[SequenceLines]
    caption: str


def sample_lines(contents: Contents) -> Lines:
    """Take the first sequence of each of at most twelve classes, and at most ten of its channels."""
    usable = contents.lengths > 0
    labels, caption = pick_classes(contents, usable)
    channels = evenly(contents.feature_size, _MOST_CHANNELS)
    sequences = []
    for label in labels:
        values = contents.load(int(np.flatnonzero(usable & (contents.labels == label))[0]))
        sequences.append(SequenceLines(contents.class_names[label], channels, values[:, channels]))
    of_channels = _how_many(len(channels), contents.feature_size, "channels")
    return Lines(sequences, f"{caption}: one sequence each, {of_channels}")


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 ... count - 1, evenly picked, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [0]
    return [number * (count - 1) // (most - 1) for number in range(most)]


def pick_classes(contents: Contents, usable: npt.NDArray[Any]) -> tuple[list[int], str]:
    """Return the labels to sample, of the classes with a usable sequence, and the words for them."""
    present = np.unique(contents.labels[usable]).tolist()
    labels = [present[number] for number in evenly(len(present), _MOST_CLASSES)]
    words = _how_many(len(labels), len(contents.class_names), "classes")
    return labels, f"{words}, evenly picked" if len(labels) < len(present) else words


def _how_many(some: int, all_: int, what: str) -> str:
    return f"all {all_} {what}" if some == all_ else f"{some} of {all_} {what}"
