"""Turn a folder of labelled videos into sequences of feature vectors, once, for all training runs.

VIDEOS holds one folder a class with its clips in it, as HMDB51 unpacks. The first frames of each clip,
resized to a square, go one by one through a frozen ImageNet backbone; the feature vectors land in the
feature store OUT, from which `seqbraid train` reads. Clips that cannot be decoded are left out and listed
at the end. A job that was killed continues where it was when the same command is run again.

Several ranks (mpiexec, srun) share the clips; they all write into OUT, so it must be on a shared disk.

example (the first command makes eight classes of small clips to try it with):
  python -m preprocess.figures videos/
  seqbraid preprocess videos/ features/ --weights random:0 --layer pool --frames 16 --size 64
  mpiexec -n 4 seqbraid preprocess hmdb51/ features51/ --splits testTrainMulti_7030_splits/ --split 1
  seqbraid preprocess videos/ features34/ --backbone resnet34 --weights resnet34-b627a593.pth
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from seqbraid.cli.arguments import add_threads_argument, fraction, whole

__all__ = ["HELP", "add_arguments", "add_backbone_arguments", "run"]

HELP = "turn a folder of labelled videos into sequences of features"

# As in preprocess.backbones, which takes seconds to import.
_BACKBONES = ("resnet18", "resnet34", "resnet50", "squeezenet1_1")
_LAYERS = ("logits", "pool")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid preprocess`."""
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="folder with one folder of clips a class")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the feature store, made or continued"
    )
    add_backbone_arguments(parser, weights="IMAGENET1K_V1")
    splits = parser.add_argument_group("splits")
    splits.add_argument(
        "--splits", type=Path, metavar="DIR", help="folder of HMDB51 split files (default: a split is drawn)"
    )
    splits.add_argument(
        "--split",
        type=whole(1, 99),
        default=1,
        metavar="N",
        help="which of them, with --splits (default: %(default)s)",
    )
    splits.add_argument(
        "--test-fraction",
        type=fraction,
        default=0.3,
        metavar="X",
        help="share of each class drawn for testing, without --splits (default: %(default)s)",
    )
    splits.add_argument(
        "--seed",
        type=whole(0, 2**63 - 1),
        default=0,
        metavar="N",
        help="seed of that draw (default: %(default)s)",
    )
    add_threads_argument(parser)
    parser.add_argument(
        "--strict",
        action="store_true",
        help="end at the first clip that cannot be decoded (default: leave it out)",
    )


def add_backbone_arguments(parser: argparse.ArgumentParser, weights: str) -> None:
    """Add what decides a clip's features; `weights` is the default of --weights."""
    features = parser.add_argument_group("features")
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
        "--size",
        type=whole(32, 4096),
        default=240,
        metavar="PIXELS",
        help="side of the square that frames are resized to (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Extract the features; rank 0 reports."""
    # Here, so that `seqbraid --help` need not wait for them.
    from preprocess.extract import ExtractOptions, extract
    from seqbraid.comm import world
    from seqbraid.threads import set_threads

    comm = world()
    set_threads(options.threads)
    names = [field.name for field in dataclasses.fields(ExtractOptions)]
    wanted = ExtractOptions(**{name: getattr(options, name) for name in names})
    extract(options.videos, options.out, wanted, comm)
