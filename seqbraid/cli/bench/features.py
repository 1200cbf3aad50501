"""Frames a second of feature extraction, against a plain loop and against the network alone.

The clips are those of a folder (VIDEOS, searched with its subfolders; --clips of them, evenly picked), or
one of --frames frames of 320 x 320 pixels that is drawn for the purpose. Measured in one run, with the same
threads, in turns:
  plain loop  OpenCV decodes a clip, then torchvision's model as it is constructed, batches of 16 frames of
              that clip in torchvision's own layout (channels first), inference mode
  decode      reading, resizing and recolouring alone, in one process on one core
  network     what `seqbraid preprocess` sends frames through, on full batches that lie in memory
  pipeline    `seqbraid preprocess` as it is, but for writing the features
Random weights are as fast as trained ones. The network's operations are counted (convolutions and the last
layer), and compared with a product of two 2048 x 2048 matrices on the same threads.

example:
  seqbraid bench features
  seqbraid bench features videos/ --backbone resnet34 --size 240 --threads 2 --json features.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_options, whole
from seqbraid.cli.bench.output import (
    add_measuring_arguments,
    conditions,
    require_one_process,
    set_up,
    write_json,
)
from seqbraid.cli.preprocess import backbone_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = "frames a second of feature extraction"

_SIDE = 320  # near the 320 x 240 pixels of HMDB51, so that frames are resized as there
_MATRIX = 2048


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
    add_options(parser, backbone_options(weights="random:0"))
    add_measuring_arguments(parser, repeats=3)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    import numpy as np
    import torch

    from preprocess.backbones import BATCH, load_backbone
    from preprocess.decode import decode_clip
    from preprocess.pipeline import Sampling, clip_features, make_decoders
    from preprocess.plain_loop import PlainLoop
    from seqbraid.bench import interleave, stopwatch
    from seqbraid.bench.records import times_to_dict
    from seqbraid.bench.tables import table_of_features
    from seqbraid.progress import progress_bar

    require_one_process("bench features")
    measured_with = set_up(options)
    backbone = load_backbone(options.backbone, options.weights, options.layer)
    plain = PlainLoop(options.backbone, options.weights, options.layer)
    sampling = Sampling(options.frames, options.size, options.stride)
    decoders = make_decoders(sampling, torch.get_num_threads())
    square = torch.randn(_MATRIX, _MATRIX)

    def pipeline(paths: list[Path]) -> None:
        for result in clip_features(paths, backbone, sampling, decoders=decoders):
            if result.error is not None:
                raise result.error

    with (
        _clips(options) as (paths, source),
        ExitStack() as stack,
        progress_bar(5 * (options.repeats + 1), "bench features", "run") as bar,
    ):
        for decoder in decoders:
            stack.enter_context(decoder)
        decoded = [decode_clip(path, **vars(sampling)).frames for path in paths]
        frames = np.concatenate(decoded)
        count = len(frames)
        # Whole batches, as many as the frames fill; a single short clip is repeated to fill one.
        full = np.resize(frames, (max(BATCH, count // BATCH * BATCH), *frames.shape[1:]))
        times = interleave(
            {
                "plain loop": stopwatch(lambda: [plain.features(path, sampling) for path in paths]),
                "decode": stopwatch(lambda: [decode_clip(path, **vars(sampling)) for path in paths]),
                "network": stopwatch(lambda: backbone.features(full)),
                "pipeline": stopwatch(lambda: pipeline(paths)),
                "product": stopwatch(lambda: square @ square),
            },
            options.repeats,
            bar.update,
        )
    product = times.pop("product")
    counts = {name: len(full) if name == "network" else count for name in times}
    operations = backbone.operations(options.size)
    peak = 2 * _MATRIX**3 / product.least
    print(
        f"frames a second of feature extraction: {source}, {count} frames in all\n"
        f"{options.backbone}, weights {options.weights}, layer {options.layer}, "
        f"{options.size} x {options.size} pixels\n{measured_with}\n"
    )
    rates = {name: counts[name] / each.median for name, each in times.items()}
    print("\n".join(table_of_features(times, counts, operations, peak)))
    print(
        f"\nhighest: of the fastest run; the rest are medians. A frame takes {operations / 1e9:.2f} billion "
        f"operations;\npeak is {peak / 1e9:.0f} billion a second, in a product of matrices of {_MATRIX}."
    )
    if options.json is not None:
        wanted = ("backbone", "weights", "layer", "frames", "stride", "size")
        record: dict[str, Any] = {
            **conditions(options),
            **{name: getattr(options, name) for name in wanted},
            "clips": len(paths),
            "frames_in_all": count,
            "operations_a_frame": operations,
            "peak_operations_a_second": peak,
            "times": {name: times_to_dict(each) for name, each in times.items()},
            "frames_per_second": rates,
        }
        write_json(options.json, record)
    if options.plot is not None:
        from seqbraid.bench.drawing import draw_features

        title = f"{options.backbone}, {options.size} x {options.size} pixels\n{measured_with}"
        draw_features({name: 1e3 / rate for name, rate in rates.items()}, title, options.plot)
        print(f"{options.plot} written")


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
