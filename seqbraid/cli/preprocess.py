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
from dataclasses import replace
from pathlib import Path

from seqbraid.cli.arguments import add_option, add_options
from seqbraid.errors import OptionsError
from seqbraid.options import Option, ThreadOptions, options_of, values_of
from seqbraid.options.extraction import SPLITS, SUBSETS, ExtractOptions, Sampling, SplitOptions

__all__ = ["HELP", "add_arguments", "backbone_options", "run"]

HELP = "turn labelled videos or sensor data into sequences of features"

# What has no meaning for sequences that are not made from videos.
_OF_VIDEOS = (
    *options_of(ExtractOptions, "backbone", "weights", "layer"),
    *options_of(Sampling),
    *options_of(SplitOptions),
    *options_of(ExtractOptions, "strict"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid preprocess`."""
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="folder of clips, manifest, UCI HAR, or arrays"
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder of the feature store, made or continued"
    )
    add_options(parser, options_of(ExtractOptions, "dtype"))
    add_options(parser, backbone_options())
    splits = options_of(SplitOptions, "splits", "split", "draw", "test_fraction", "seed")
    [classes] = options_of(SplitOptions, "classes")
    chosen = parser.add_argument_group(SPLITS.title).add_mutually_exclusive_group()
    chosen.add_argument(
        "--subset",
        choices=tuple(SUBSETS),
        help="only these classes: "
        + "; ".join(f"{name} is {', '.join(each[:-1])} and {each[-1]}" for name, each in SUBSETS.items()),
    )
    add_option(chosen, classes)
    add_options(parser, splits)
    add_options(parser, [*options_of(ThreadOptions), *options_of(ExtractOptions, "strict", "check")])


def backbone_options(weights: str | None = None) -> list[Option]:
    """Return what decides a clip's features; `weights` is another default of --weights."""
    [backbone, declared, layer] = options_of(ExtractOptions, "backbone", "weights", "layer")
    if weights is not None:
        declared = declared.but(default=weights)
    return [backbone, declared, layer, *options_of(Sampling, "frames", "stride", "size")]


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
    from preprocess.extract import extract
    from seqbraid.comm import as_communicator

    if options.splits is not None:
        drawn = options_of(SplitOptions, "draw", "test_fraction", "seed")
        _refuse(options, drawn, f"{options.splits} divides the clips")
    given = vars(options)
    chosen = SUBSETS[options.subset] if options.subset else options.classes
    wanted = replace(
        ExtractOptions(**values_of(ExtractOptions, given)),
        sampling=Sampling(**values_of(Sampling, given)),
        splits=SplitOptions(**values_of(SplitOptions, {**given, "classes": chosen})),
    )
    extract(options.source, options.out, wanted, as_communicator(comm))


def _run_sequences(options: argparse.Namespace, comm: object) -> None:
    from preprocess.sequences import store_sequences
    from seqbraid.comm import as_communicator

    _refuse(options, _OF_VIDEOS, f"{options.source} holds sequences, not videos")
    store_sequences(options.source, options.out, as_communicator(comm), options.dtype, options.check)


def _refuse(options: argparse.Namespace, without_effect: Sequence[Option], why: str) -> None:
    """Raise `OptionsError` for the first of these options that was given and would have no effect."""
    if options.subset is not None and any(each.name == "classes" for each in without_effect):
        raise OptionsError(f"{why}; leave --subset out")
    for each in without_effect:
        if getattr(options, each.dest) != each.default:
            raise OptionsError(f"{why}; leave {each.flag} out")
