"""A trained run brought back: options, model and standardisation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

from seqbraid.comm import ProcessGrid
from seqbraid.data.dataset import Dataset, open_dataset, split_names
from seqbraid.data.padding import PADDINGS, Padding
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import DataError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import ModelOptions, RunFolder, SequenceClassifier

__all__ = ["load_run", "open_for_run", "padding_of_run", "require_same_features"]

# Where features came from, which says nothing of what they mean. Of weights, the hash is what counts.
_ORIGIN = frozenset({"source", "source_sha256", "weights"})


def load_run(
    folder: Path, which: Literal["last", "best"], solver: Serial | MGRIT, grid: ProcessGrid
) -> tuple[SequenceClassifier, Standardisation]:
    """Return the model of a run with its weights, and the standardisation of its features.

    Raises `DataError` where the folder is no run, or its files do not belong together.
    """
    run = RunFolder(folder)
    options = run.options()
    weights = run.load_weights(which)
    try:
        model = SequenceClassifier(ModelOptions(**options["model"]), solver, grid)
        model.load_state_dict(weights["model"])
        standardise = Standardisation(weights["mean"], weights["deviation"])
        if not standardise.mean.shape == standardise.deviation.shape == (options["model"]["feature_size"],):
            raise ValueError("mean and deviation are not as many as the features")
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # The second line of load_state_dict's error is the first to name a tensor.
        reason = " ".join(str(error).splitlines()[:2])
        raise DataError(
            f"{folder}: options.json and {which}.pt do not belong together ({reason}); train again"
        ) from error
    return model.eval(), standardise


def padding_of_run(folder: Path, trained: dict[str, Any]) -> tuple[Padding, int | None]:
    """Return how a run of options `trained` padded its sequences, and to how many steps (None: not at all).

    A run that says nothing of it used true lengths. Raises `DataError` for values that it cannot have.
    """
    padding, steps = trained["training"].get("pad", "lengths"), trained["training"].get("padded_steps")
    whole = isinstance(steps, int) and steps > 0
    if padding not in PADDINGS or not (steps is None if padding == "lengths" else whole):
        raise DataError(
            f"{folder}/options.json is damaged (padding {padding!r} to {steps!r} steps); train again"
        )
    return padding, steps


def open_for_run(folder: Path, trained: dict[str, Any], data: Path, split: str | None) -> Dataset:
    """Open `data` by the split named; None: of a store the one that the run was trained on.

    Raises `DataError` where the store lacks it, or divides the same clips otherwise now, and for data of
    other features or classes than the run's.
    """
    wanted = trained.get("split")
    if split is None and wanted is not None and (names := split_names(data)):
        if wanted not in names:
            raise DataError(
                f"{folder} was trained on the split {wanted}, which {data} lacks; only where the "
                f"run has seen none of their test clips, name one of its own with --split: {', '.join(names)}"
            )
        dataset = open_dataset(data, wanted)
        if _divided_otherwise(trained, dataset):
            raise DataError(
                f"the split {wanted} of {data} is another than when {folder} was trained, so its test clips "
                f"may have been trained on; train again, or say --split {wanted} to measure all the same"
            )
    else:
        dataset = open_dataset(data, split)
        if split is not None and _divided_otherwise(trained, dataset):
            warnings.warn(
                f"{folder} was trained on another split of these clips ({wanted}), so it may know test clips "
                f"of {split}; the accuracy is then too high",
                stacklevel=2,
            )
    require_same_features(folder, trained["features"], data, dataset.options)
    if trained["class_names"] != dataset.class_names:
        raise DataError(
            f"{data} has the classes {', '.join(dataset.class_names)}, but {folder} was "
            f"trained on {', '.join(trained['class_names'])}; give data of the same classes, or train anew"
        )
    return dataset


def _divided_otherwise(trained: dict[str, Any], dataset: Dataset) -> bool:
    """Return whether the run was trained on the same clips, divided in another way."""
    then, now = trained.get("split_sha256", {}), dataset.split_sha256
    return bool(now) and then.get("clips") == now["clips"] and then.get("marks") != now["marks"]


def require_same_features(run: Path, trained: dict[str, Any], data: Path, given: dict[str, Any]) -> None:
    """Raise `DataError` naming the first option by which `data` differs from what the run was trained on."""
    remedy = "make features with the same options, or train anew"
    kinds = ["video features" if "backbone" in options else "arrays" for options in (given, trained)]
    if kinds[0] != kinds[1]:
        raise DataError(f"{data} holds {kinds[0]}, but {run} was trained on {kinds[1]}; {remedy}")
    for name in sorted(trained.keys() | given.keys()):
        if name in _ORIGIN or trained.get(name) == given.get(name):
            continue
        # Channels that one of the two does not name may be any.
        if name == "channels" and not (name in trained and name in given):
            continue
        if name == "weights_sha256":
            raise DataError(
                f"{data} was made with other weights ({given.get('weights')}) than the features that {run} "
                f"was trained on ({trained.get('weights')}); {remedy}"
            )
        raise DataError(
            f"{data} was made with {name} {given.get(name)}, but {run} was trained on features with "
            f"{name} {trained.get(name)}; {remedy}"
        )
