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
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_threads_argument, whole

__all__ = ["HELP", "add_arguments", "run"]

HELP = "name the most likely classes of videos"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid predict`."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of seqbraid train")
    parser.add_argument("clips", type=Path, nargs="+", metavar="VIDEO", help="video or .npy file")
    parser.add_argument(
        "--top", type=whole(1, 10**6), default=5, metavar="N", help="classes shown (default: 5)"
    )
    parser.add_argument(
        "--which",
        choices=("last", "best"),
        default="last",
        help="weights of the last epoch, or of the best by the validation part, else by the test part "
        "(default: last)",
    )
    parser.add_argument(
        "--weights",
        metavar="SPEC",
        help="where the backbone's weights lie now: a name, a file or random:SEED "
        "(default: as they were given to preprocess)",
    )
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print the top classes of each clip; those that cannot be read are named at the end."""
    from seqbraid.comm import launched_ranks
    from seqbraid.errors import DataError, OptionsError
    from seqbraid.threads import set_threads
    from seqbraid.train import RunFolder

    if launched_ranks() > 1:
        raise OptionsError(
            f"predict takes one process, not {launched_ranks()} ranks; start it without mpiexec"
        )
    set_threads(options.threads)
    trained = RunFolder(options.run_folder).options()
    # Before the backbone, which takes seconds to load.
    failures = [f"{path} is not a file" for path in options.clips if not path.is_file()]
    clips = [path for path in options.clips if path.is_file()]
    if clips:
        failures += _predict(clips, trained, options)
    if failures:
        head = f"{len(failures)} of {len(options.clips)} clips cannot be read:"
        raise DataError(failures[0] if len(options.clips) == 1 else "\n  ".join([head, *failures]))


def _predict(clips: list[Path], trained: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Print the top classes of each clip, and return what is wrong with those that cannot be read."""
    import torch

    from seqbraid.cli.runs import load_run, padding_of_run
    from seqbraid.comm import ProcessGrid
    from seqbraid.data.padding import pad_sequence
    from seqbraid.errors import DataError
    from seqbraid.mgrit import Serial

    padding, steps = padding_of_run(options.run_folder, trained)
    model, standardise = load_run(options.run_folder, options.which, Serial(), ProcessGrid())
    read = _reader(trained, options.weights)
    failures = []
    for path in clips:
        try:
            sequence = read(path)
            if steps is not None and len(sequence) > steps:
                raise DataError(
                    f"{path} has {len(sequence)} steps, but {options.run_folder} was trained on sequences "
                    f"padded to {steps}; cut it to at most {steps}"
                )
        except DataError as error:
            failures.append(str(error))
            continue
        padded = pad_sequence(sequence, steps or len(sequence), padding, standardise.mean.numpy())
        with torch.no_grad():
            logits = model(standardise(torch.from_numpy(padded)).unsqueeze(1))[0]
        probabilities = logits.softmax(dim=0)
        print(f"{path} ({len(sequence)} steps)")
        for index in probabilities.argsort(descending=True)[: options.top].tolist():
            print(f"  {probabilities[index]:6.1%}  {trained['class_names'][index]}")
    return failures


def _reader(trained: dict[str, Any], weights: str | None) -> Callable[[Path], Any]:
    """Return read(path) -> (T, F) float32 for what the run was trained on; it raises `DataError`."""
    features, feature_size = trained["features"], trained["model"]["feature_size"]
    if "backbone" not in features:
        return lambda path: _read_array(path, feature_size)

    from preprocess.pipeline import Sampling
    from preprocess.unseen import backbone_from_options, features_of_clips

    backbone = backbone_from_options(features, weights)
    sampling = Sampling.of(features)
    return lambda path: features_of_clips([path], backbone, sampling)[0]


def _read_array(path: Path, feature_size: int) -> Any:
    import zipfile

    import numpy as np

    from seqbraid.data.arrays import LARGEST
    from seqbraid.errors import DataError

    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a .npy array of plain numbers, which this run was trained on"
        ) from error
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 2
        or array.shape[1] != feature_size
        or not len(array)
        or array.dtype.kind not in "iuf"
    ):
        given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError(f"{path} is {given}; expected real numbers of shape (T, {feature_size})")
    with np.errstate(over="ignore"):  # beyond float32's range is beyond 1e30, which is refused
        values = array.astype(np.float32)
    if not (np.abs(values) <= LARGEST).all():
        raise DataError(f"{path} holds nan, inf or values beyond 1e30")
    return values
