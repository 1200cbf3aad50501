"""What data a run was trained on, and whether other data fit it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from seqbraid.data.dataset import Dataset, open_dataset, split_names
from seqbraid.data.padding import PADDINGS, Padding
from seqbraid.errors import DataError, OptionsError

__all__ = ["open_for_run", "padding_of_run"]

# Where features came from, which says nothing of what they mean. Of weights, the hash is what counts.
_ORIGIN = frozenset({"source", "source_sha256", "weights"})


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


def open_for_run(
    folder: Path, trained: dict[str, Any], data: str | Path | Dataset, split: str | None = None
) -> Dataset:
    """Return the data set `data`, or open its path by the split named; None: of a store the run's own.

    Raises `DataError` where the store lacks it, or divides the same clips otherwise now, and for data of
    other features or classes than the run's. Warns of another split of the same clips.
    """
    wanted = trained.get("split")
    if isinstance(data, Dataset):
        if split is not None:
            raise OptionsError(f"`split={split}` is for a path; open the data set by that split")
        dataset, name, chosen = data, "the data set", True
    elif split is None and wanted is not None and (names := split_names(Path(data))):
        dataset, name, chosen = _open_as_trained(folder, trained, data, names), str(data), False
    else:
        dataset, name, chosen = open_dataset(data, split), str(data), split is not None
    if chosen and _divided_otherwise(trained, dataset):
        warnings.warn(
            f"{folder} was trained on another split of these clips ({wanted}), so it may know test clips "
            f"of {dataset.split}; the accuracy is then too high",
            stacklevel=2,
        )
    _require_same_features(folder, trained["features"], name, dataset.options)
    if trained["class_names"] != dataset.class_names:
        raise DataError(
            f"{name} has the classes {', '.join(dataset.class_names)}, but {folder} was "
            f"trained on {', '.join(trained['class_names'])}; give data of the same classes, or train anew"
        )
    return dataset


def _open_as_trained(folder: Path, trained: dict[str, Any], data: str | Path, names: list[str]) -> Dataset:
    """Open a store that has splits of these names by the one that the run was trained on."""
    wanted = trained["split"]
    if wanted not in names:
        raise DataError(
            f"{folder} was trained on the split {wanted}, which {data} lacks; only where the "
            f"run has seen none of their test clips, name one of its own with `split`: {', '.join(names)}"
        )
    dataset = open_dataset(data, wanted)
    if _divided_otherwise(trained, dataset):
        raise DataError(
            f"the split {wanted} of {data} is another than when {folder} was trained, so its test clips "
            f"may have been trained on; train again, or say `split={wanted}` to measure all the same"
        )
    return dataset


def _divided_otherwise(trained: dict[str, Any], dataset: Dataset) -> bool:
    """Return whether the run was trained on the same clips, divided in another way."""
    then, now = trained.get("split_sha256", {}), dataset.split_sha256
    return bool(now) and then.get("clips") == now["clips"] and then.get("marks") != now["marks"]


def _require_same_features(run: Path, trained: dict[str, Any], data: str, given: dict[str, Any]) -> None:
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
