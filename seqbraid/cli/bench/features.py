"""Frames a second of feature extraction: decoding alone, the network alone, and both.

The clips are those of a folder (VIDEOS, searched with its subfolders; --clips of them, evenly picked), or
one of --frames frames of 320 x 320 pixels that is drawn for the purpose. Decoding reads the files, takes
the first --frames frames and resizes them to --size; the network alone works on these frames in memory;
both is what `seqbraid preprocess` does with each clip, but for writing the features. Random weights are as
fast as trained ones.

example:
  seqbraid bench features
  seqbraid bench features videos/ --backbone resnet34 --size 240 --threads 2 --json features.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqbraid.cli.arguments import whole
from seqbraid.cli.bench.output import (
    add_measuring_arguments,
    conditions,
    print_table,
    require_one_process,
    set_up,
    short,
    times_to_dict,
    write_json,
)
from seqbraid.cli.preprocess import add_backbone_arguments

__all__ = ["HELP", "add_arguments", "run"]

HELP = "frames a second of feature extraction"

_SIDE = 320  # near the 320 x 240 pixels of HMDB51, so that frames are resized as there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid bench features`."""
    parser.add_argument(
        "videos", type=Path, nargs="?", metavar="VIDEOS", help="folder with clips (default: one is drawn)"
    )
    parser.add_argument(
        "--clips",
        type=whole(1, 10**6),
        default=8,
        metavar="N",
        help="at most so many; their frames are all held in memory (default: %(default)s)",
    )
    add_backbone_arguments(parser, weights="random:0")
    add_measuring_arguments(parser, repeats=3)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from preprocess.backbones import load_backbone
    from preprocess.decode import decode_clip
    from preprocess.extract import features_of_clip
    from seqbraid.bench import interleave, stopwatch
    from seqbraid.progress import progress_bar

    require_one_process("bench features")
    measured_with = set_up(options)
    backbone = load_backbone(options.backbone, options.weights, options.layer)
    frames, size = options.frames, options.size
    with (
        _clips(options) as (paths, source),
        progress_bar(3 * (options.repeats + 1), "bench features", "run") as bar,
    ):
        in_memory = [decode_clip(path, frames, size).frames for path in paths]
        times = interleave(
            {
                "decode": stopwatch(lambda: [decode_clip(path, frames, size) for path in paths]),
                "network": stopwatch(lambda: [backbone.features(each) for each in in_memory]),
                "both": stopwatch(lambda: [features_of_clip(path, backbone, frames, size) for path in paths]),
            },
            options.repeats,
            bar.update,
        )
    count = sum(map(len, in_memory))
    print(
        f"frames a second of feature extraction: {source}, {count} frames in all\n"
        f"{options.backbone}, weights {options.weights}, layer {options.layer}, {size} x {size} pixels\n"
        f"{measured_with}\n"
    )
    rows = [
        [name, short(count / each.median), short(count / each.least), short(1e3 * each.median / count)]
        for name, each in times.items()
    ]
    print_table(["", "frames/s", "highest", "ms a frame"], rows)
    if options.json is not None:
        wanted = ("backbone", "weights", "layer", "frames", "size")
        record = {
            **conditions(options),
            **{name: getattr(options, name) for name in wanted},
            "clips": len(paths),
            "frames_in_all": count,
            "times": {name: times_to_dict(each) for name, each in times.items()},
            "frames_per_second": {name: count / each.median for name, each in times.items()},
        }
        write_json(options.json, record)
    if options.plot is not None:
        from seqbraid.cli.bench.drawing import draw_features

        title = f"{options.backbone}, {size} x {size} pixels\n{measured_with}"
        draw_features({name: 1e3 * each.median / count for name, each in times.items()}, title, options.plot)


@contextmanager
def _clips(options: argparse.Namespace) -> Iterator[tuple[list[Path], str]]:
    """Give the clips to measure with, and the words for them."""
    import numpy as np

    from preprocess.clips import VIDEO_SUFFIXES
    from preprocess.figures import draw_clip, write_video
    from seqbraid.errors import DataError

    if options.videos is None:
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.avi"
            write_video(clip, draw_clip(np.random.default_rng(0), "run_right", options.frames, _SIDE))
            yield [clip], f"a drawn clip of {_SIDE} x {_SIDE} pixels, motion JPEG"
        return
    if not options.videos.is_dir():
        raise DataError(f"{options.videos} is not a folder; expected a folder of videos")
    found = sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise DataError(f"{options.videos} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))})")
    count = min(options.clips, len(found))
    # Evenly, since the first ones are all of one class.
    picked = [found[(2 * number + 1) * len(found) // (2 * count)] for number in range(count)]
    yield picked, f"{count} of {len(found)} clips of {options.videos}"
