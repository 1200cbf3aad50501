"""A new store, or one that an earlier job left: continued where it was made of the same, else refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preprocess.clips import LabelledClips
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError
from seqbraid.progress import progress_bar

__all__ = ["create_or_continue", "redo_damaged"]

_logger = logging.getLogger("seqbraid.preprocess")


def create_or_continue(
    out: Path,
    found: LabelledClips,
    feature_size: int,
    options: Mapping[str, Any],
    dtype: str,
    check: bool,
) -> FeatureStore:
    """Return the store `out` with every clip pending that has to be done; for one rank.

    In a store that is there, clips that failed become pending again, with `check` those that are damaged too,
    and splits and place of the videos become those of `found`. Raises `DataError` where
    the features there are of other clips or were made with other options.
    """
    wanted: dict[str, Any] = {
        "options": options,
        "dtype": dtype,
        "clips": found.clips,
        "labels": found.labels,
        "class_names": found.class_names,
    }
    divided: dict[str, Any] = {
        "splits": found.splits,
        "split": found.split,
        "source": str(found.root.absolute()),
    }
    if not (out / "store.json").exists():
        return FeatureStore.create(
            out, frames=options["frames"], feature_size=feature_size, **wanted, **divided
        )
    store = FeatureStore.open(out, require_complete=False)
    difference = _first_difference(store, wanted)
    if difference:
        raise DataError(f"{out} was made with {difference}; choose another folder or delete it")
    present = {"splits": store.splits_by_name(), "split": store.split, "source": store.source}
    if present["splits"] != divided["splits"]:
        _logger.info(f"{out}: the features are kept, the splits become those asked for now")
    if present != divided:
        store.update_header(**divided)
    store.mark_pending(store.failed())
    if check:
        redo_damaged(store, "clip")
    return store


def redo_damaged(store: FeatureStore, unit: str) -> None:
    """Make what does not match its checksum pending again; for one rank."""
    with progress_bar(len(store), "verifying", unit) as bar:
        damaged = store.damaged(bar.update)
    if damaged:
        _logger.info(
            f"{store.folder}: {len(damaged)} {unit}s do not match their checksums and are done again"
        )
    else:
        _logger.info(f"{store.folder}: every {unit} that is there matches its checksum")
    store.mark_pending(damaged)


def _first_difference(store: FeatureStore, wanted: Mapping[str, Any]) -> str | None:
    """Say in words what differs first, None if nothing; `wanted` as it would come back out of JSON."""
    asked = json.loads(json.dumps(wanted))
    for key in dict.fromkeys([*asked["options"], *store.options]):
        then, now = store.options.get(key), asked["options"].get(key)
        # Where the weights came from does not matter, as long as they are the same: weights_sha256 tells.
        if key == "weights" or then == now:
            continue
        if key == "weights_sha256":
            return f"other weights ({store.options['weights']} then, {asked['options']['weights']} now)"
        return f"{key} {then}, now asked for {now}"
    if store.dtype.name != asked["dtype"]:
        return f"dtype {store.dtype.name}, now asked for {asked['dtype']}"
    if store.clips != asked["clips"]:
        changed = min(set(store.clips) ^ set(asked["clips"]), default="their order")
        return f"other clips ({len(store.clips)} then, {len(asked['clips'])} now; {changed!r} is one of them)"
    if store.class_names != asked["class_names"] or store.labels.tolist() != asked["labels"]:
        return f"other classes ({', '.join(store.class_names[:5])}, ... then)"
    return None
