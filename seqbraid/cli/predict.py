"""Name the most likely classes of videos, or of sensor recordings.

A VIDEO goes through the same backbone, with the same weights and options, as the features that the run was
trained on. For a run that was trained on arrays, give .npy files (T, I) instead. The solve is serial, so
exact; it takes one process.

example, after `seqbraid train features/ --output run/`:
  seqbraid predict run/ clip.avi other.mp4
  seqbraid predict run/ recording.npy --top 3
"""

from __future__ import annotations

import argparse
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
        help="weights of the last epoch, or of the one with the highest test accuracy (default: last)",
    )
    parser.add_argument(
        "--weights",
        metavar="SPEC",
        help="where the backbone's weights lie now: a name, a file or random:SEED "
        "(default: as they were given to preprocess)",
    )
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print the top classes of each clip."""
    import torch

    from seqbraid.cli.runs import load_run
    from seqbraid.comm import SingleProcess, launched_ranks
    from seqbraid.errors import OptionsError
    from seqbraid.mgrit import Serial
    from seqbraid.threads import set_threads
    from seqbraid.train import RunFolder

    if launched_ranks() > 1:
        raise OptionsError(
            f"predict takes one process, not {launched_ranks()} ranks; start it without mpiexec"
        )
    set_threads(options.threads)
    trained = RunFolder(options.run_folder).options()
    model, standardise = load_run(options.run_folder, options.which, Serial(), SingleProcess())
    if "backbone" in trained["features"]:
        sequences = _video_features(options, trained["features"])
    else:
        sequences = [_read_array(path, trained["model"]["feature_size"]) for path in options.clips]
    names = trained["class_names"]
    for path, sequence in zip(options.clips, sequences, strict=True):
        with torch.no_grad():
            logits = model(standardise(torch.from_numpy(sequence)).unsqueeze(1))[0]
        probabilities = logits.softmax(dim=0)
        print(f"{path} ({len(sequence)} steps)")
        for index in probabilities.argsort(descending=True)[: options.top].tolist():
            print(f"  {probabilities[index]:6.1%}  {names[index]}")


def _video_features(options: argparse.Namespace, features: dict[str, Any]) -> list[Any]:
    from preprocess.extract import backbone_from_options, features_of_clips

    # Decoding comes first to mind when a file is missing, but loading a backbone takes longer.
    _require_files(options.clips)
    backbone = backbone_from_options(features, options.weights)
    return features_of_clips(options.clips, backbone, features["frames"], features["size"])


def _require_files(paths: list[Path]) -> None:
    from seqbraid.errors import DataError

    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} is not a file")


def _read_array(path: Path, feature_size: int) -> Any:
    import zipfile

    import numpy as np

    from seqbraid.errors import DataError

    _require_files([path])
    try:
        array = np.load(path, allow_pickle=False)
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
    values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds nan or inf")
    return values
