"""Turn labelled videos, or sensor recordings, into sequences of features, once, for all training runs.

SOURCE is one of
  - a folder with one folder a class and its clips in it, as HMDB51 unpacks (`<class>/<clip>.avi`)
  - a manifest, a .csv file with a header line and the columns path, label and perhaps split (train, test,
    unused); paths are relative to its folder and must stay in it; further columns are ignored
  - UCI HAR as it is downloaded (the .zip), or unpacked
  - an .npz file, or a folder of .npy files, with x_train (N, T, I), y_train, x_test and y_test, optionally
    length_train, length_test and label (class names)

Of a video, the first frames (every one, or one in --stride), resized to a square, go through a frozen
ImageNet backbone, each for itself. The feature vectors land in the feature store OUT, from which
`seqbraid train` reads. Clips that cannot be decoded are left out and listed at the end. Sensor sequences
are kept as they are.

A job that was killed continues where it was when the same command is run again; what is done is not done
again. The same command with other splits changes the splits alone.

Several ranks (mpiexec, srun) share the clips: each takes the next one when it is free. They all write into
OUT, so it must be on a shared disk. The features do not depend on the number of ranks or threads.

example (the first command makes eight classes of small clips to try it with):
  python -m preprocess.figures videos/
  seqbraid preprocess videos/ features/ --weights random:0 --layer pool --frames 16 --size 64
  mpiexec -n 4 seqbraid preprocess hmdb51/ features51/ --splits testTrainMulti_7030_splits/
  seqbraid preprocess hmdb51/ features6/ --subset hmdb6 --draw random --test-fraction 0.1 --seed 1
  seqbraid preprocess videos/ features34/ --backbone resnet34 --weights resnet34-b627a593.pth
  seqbraid preprocess "UCI HAR Dataset.zip" har/
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from seqbraid.cli.arguments import add_options, fraction, whole
from seqbraid.options import ThreadOptions, options_of

__all__ = ["HELP", "add_arguments", "add_backbone_arguments", "run"]

HELP = "turn labelled videos or sensor data into sequences of features"

# As in preprocess.backbones and preprocess.clips, which take seconds to import.
_BACKBONES = ("resnet18", "resnet34", "resnet50", "squeezenet1_1")
_LAYERS = ("logits", "pool")
_SUBSETS = ("hmdb6",)
_DTYPES = ("float32", "float16")

# What has no meaning for sequences that are not made from videos.
_OF_VIDEOS = (
    *("backbone", "weights", "layer", "frames", "size", "stride"),
    *("subset", "classes", "splits", "split", "draw", "test_fraction", "seed", "strict"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid preprocess`."""
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder of clips, manifest, UCI HAR, or arrays"
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the feature store, made or continued"
    )
    parser.add_argument(
        "--dtype",
        choices=_DTYPES,
        default="float32",
        help="how features are stored; float16 takes half the room (default: %(default)s)",
    )
    add_backbone_arguments(parser, weights="IMAGENET1K_V1")
    _add_split_arguments(parser)
    add_options(parser, options_of(ThreadOptions))
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end at the first clip that cannot be decoded (default: leave it out)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="first verify what is in OUT already, and do what is damaged again",
    )


def _add_split_arguments(parser: argparse.ArgumentParser) -> None:
    splits = parser.add_argument_group("classes and splits of videos")
    chosen = splits.add_mutually_exclusive_group()
    chosen.add_argument(
        "--subset", choices=_SUBSETS, help="only these classes: hmdb6 is chew, eat, jump, run, sit and walk"
    )
    chosen.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="only these classes (default: all there are)"
    )
    splits.add_argument(
        "--splits",
        type=Path,
        metavar="DIR",
        help="folder of HMDB51 split files, all of which are kept (default: a split is drawn)",
    )
    splits.add_argument(
        "--split",
        metavar="NAME",
        help="the split that `train` takes unless told otherwise (default: the first, 1)",
    )
    splits.add_argument(
        "--draw",
        choices=("stratified", "random"),
        default="stratified",
        help="without split files: test with a share of every class, or of all clips (default: %(default)s)",
    )
    splits.add_argument(
        "--test-fraction",
        type=fraction,
        default=0.3,
        metavar="X",
        help="the share drawn for testing (default: %(default)s)",
    )
    splits.add_argument(
        "--seed", type=whole(0, 2**63 - 1), default=0, metavar="N", help="of the draw (default: %(default)s)"
    )


def add_backbone_arguments(parser: argparse.ArgumentParser, weights: str) -> None:
    """Add what decides a clip's features; `weights` is the default of --weights."""
    features = parser.add_argument_group("features of videos")
    features.add_argument(
        "--backbone", default="resnet18", metavar="NAME", help=f"{', '.join(_BACKBONES)} (default: resnet18)"
    )
    features.add_argument(
        "--weights",
        default=weights,
        metavar="SPEC",
        help="a torchvision weight name, a state-dict file, or random:SEED (default: %(default)s)",
    )
    features.add_argument(
        "--layer",
        choices=_LAYERS,
        default="logits",
        help="the 1000 class scores, or the averaged last activations (default: %(default)s)",
    )
    features.add_argument(
        "--frames",
        type=whole(1, 100_000),
        default=128,
        metavar="T",
        help="frames kept of each clip, from its start (default: %(default)s)",
    )
    features.add_argument(
        "--stride",
        type=whole(1, 10_000),
        default=1,
        metavar="K",
        help="keep one frame in K (default: every one)",
    )
    features.add_argument(
        "--size",
        type=whole(32, 4096),
        default=240,
        metavar="PIXELS",
        help="side of the square that frames are resized to (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Extract the features; rank 0 reports."""
    # Here, so that `seqbraid --help` need not wait for them.
    from preprocess.sequences import is_sequence_source
    from seqbraid.comm import world
    from seqbraid.threads import set_threads

    comm = world()
    set_threads(options.threads)
    if is_sequence_source(options.source):
        _run_sequences(options, comm)
    else:
        _run_videos(options, comm)


def _run_videos(options: argparse.Namespace, comm: object) -> None:
    from preprocess.clips import SUBSETS, SplitOptions
    from preprocess.extract import ExtractOptions, extract
    from preprocess.pipeline import Sampling
    from seqbraid.comm import as_communicator

    if options.splits is not None:
        _refuse(options, ("draw", "test_fraction", "seed"), f"{options.splits} divides the clips")
    classes = SUBSETS[options.subset] if options.subset else options.classes
    splits = SplitOptions(
        splits=options.splits,
        split=options.split,
        draw=options.draw,
        test_fraction=options.test_fraction,
        seed=options.seed,
        classes=None if classes is None else tuple(classes),
    )
    wanted = ExtractOptions(
        backbone=options.backbone,
        weights=options.weights,
        layer=options.layer,
        dtype=options.dtype,
        sampling=Sampling(options.frames, options.size, options.stride),
        splits=splits,
        strict=options.strict,
        check=options.check,
    )
    extract(options.source, options.out, wanted, as_communicator(comm))


def _run_sequences(options: argparse.Namespace, comm: object) -> None:
    from preprocess.sequences import store_sequences
    from seqbraid.comm import as_communicator

    _refuse(options, _OF_VIDEOS, f"{options.source} holds sequences, not videos")
    store_sequences(options.source, options.out, as_communicator(comm), options.dtype, options.check)


def _refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raise `OptionsError` for the first of these options that was given and would have no effect."""
    from seqbraid.errors import OptionsError

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name in names:
        if getattr(options, name) != parser.get_default(name):
            raise OptionsError(f"{why}; leave --{name.replace('_', '-')} out")
