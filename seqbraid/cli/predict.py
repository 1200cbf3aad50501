"""Name the most likely classes of videos, or of sensor recordings.

A VIDEO goes through the same backbone, with the same weights and options, as the features that the run was
trained on, and is padded as they were. For a run that was trained on arrays, give .npy files (T, I)
instead. A clip that cannot be read does not stop the others: such clips are listed at the end, and the exit
code is 2. The solve is serial, so exact; it takes one process.

example, after `seqbraid train features/ --output run/`:
  seqbraid predict run/ clip.avi other.mp4
  seqbraid predict run/ recording.npy --top 3
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbraid.cli.arguments import add_options, whole
from seqbraid.options import ThreadOptions, TrainedOptions, options_of

if TYPE_CHECKING:
    from seqbraid.train import Run

__all__ = ["HELP", "add_arguments", "run"]

HELP = "name the most likely classes of videos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid predict`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of seqbraid train")
    parser.add_argument("clips", type=Path, nargs="+", metavar="VIDEO", help="video or .npy file")
    parser.add_argument(
        "--top", type=whole(1, 10**6), default=5, metavar="N", help="classes shown (default: 5)"
    )
    add_options(parser, options_of(TrainedOptions, "which"))
    parser.add_argument(
        "--weights",
        metavar="SPEC",
        help="where the backbone's weights lie now: a name, a file or random:SEED "
        "(default: as they were given to preprocess)",
    )
    add_options(parser, options_of(ThreadOptions))


def run(options: argparse.Namespace) -> None:
    """Print the top classes of each clip; those that cannot be read are named at the end."""
    from seqbraid.comm import launched_ranks
    from seqbraid.errors import DataError, OptionsError
    from seqbraid.threads import set_threads
    from seqbraid.train import load_run

    if launched_ranks() > 1:
        raise OptionsError(
            f"predict takes one process, not {launched_ranks()} ranks; start it without mpiexec"
        )
    set_threads(options.threads)
    trained = load_run(options.run_folder, options.which)
    # Before the backbone, which takes seconds to load.
    failures = [f"{path} is not a file" for path in options.clips if not path.is_file()]
    clips = [path for path in options.clips if path.is_file()]
    if clips:
        failures += _predict(trained.load(), clips, options)
    if failures:
        head = f"{len(failures)} of {len(options.clips)} clips cannot be read:"
        raise DataError(failures[0] if len(options.clips) == 1 else "\n  ".join([head, *failures]))


def _predict(trained: Run, clips: list[Path], options: argparse.Namespace) -> list[str]:
    """Print the top classes of each clip, and return what is wrong with those that cannot be read."""
    from seqbraid.errors import DataError

    read, failures = _reader(trained, options.weights), []
    for path in clips:
        try:
            sequence = read(path)
            prediction = trained.predict(sequence, [str(path)])
        except DataError as error:
            failures.append(str(error))
            continue
        print(f"{path} ({len(sequence)} steps)")
        for name, probability in prediction.top(options.top):
            print(f"  {probability:6.1%}  {name}")
    return failures


def _reader(trained: Run, weights: str | None) -> Callable[[Path], Any]:
    """Return read(path) -> (T, F) float32 for what the run was trained on; it raises `DataError`."""
    features = trained.options["features"]
    if "backbone" not in features:
        from seqbraid.data.sequence import read_sequence

        return partial(read_sequence, feature_size=trained.options["model"]["feature_size"])

    from preprocess.pipeline import Sampling
    from preprocess.unseen import backbone_from_options, features_of_clips

    backbone = backbone_from_options(features, weights)
    sampling = Sampling.of(features)
    return lambda path: features_of_clips([path], backbone, sampling)[0]
