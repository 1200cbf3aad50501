"""Frames of a clip of each class, for a picture of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from preprocess.decode import DecodeError
from preprocess.decoder import Decoder
from seqbraid.data.contents import Contents
from seqbraid.data.samples import ClipFrames, Frames, evenly, pick_classes
from seqbraid.data.store import FeatureStore
from seqbraid.progress import progress_bar

__all__ = ["sample_frames"]

_FRAMES = 10
_PIXELS = 128


def sample_frames(contents: Contents, store: FeatureStore, videos: Path) -> Frames:
    """Decode frames of a clip of each of at most twelve classes, spread over what the store keeps of it.

    The clip is the first in the folder `videos` that can be decoded; a class that has none is left out, and
    named in the caption.
    """
    stride = int(store.options.get("stride", 1))
    usable = contents.parts != "failed"
    labels, caption = pick_classes(contents, usable)
    clips, without = [], []
    # In a process of its own, which a damaged file may crash.
    decoder = Decoder(store.shape[1], _PIXELS, stride)
    with decoder, progress_bar(len(labels), "decoding", "class") as bar:
        for label in labels:
            name = contents.class_names[label]
            for index in np.flatnonzero(usable & (contents.labels == label)).tolist():
                # Of a pending clip the store will keep as much as there is room for.
                kept = int(contents.lengths[index]) or store.shape[1]
                try:
                    frames = np.stack(list(decoder.clip(videos / store.clips[index])))[:kept]
                except DecodeError:
                    continue
                picked = evenly(len(frames), _FRAMES)
                numbers = [stride * number for number in picked]
                clips.append(ClipFrames(name, store.clips[index], numbers, frames[picked]))
                break
            else:
                without.append(name)
            bar.update()
    caption += ": frames of one clip each, numbered from 0 as in its file"
    if without:
        caption += f"; no clip can be decoded of {', '.join(without)}"
    return Frames(clips, caption)
