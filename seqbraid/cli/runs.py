"""A trained run brought back: options, model and standardisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from seqbraid.comm import Communicator
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import DataError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import ModelOptions, RunFolder, SequenceClassifier

__all__ = ["load_run", "require_same_features"]

# Where features came from, which says nothing of what they mean. Of weights, the hash is what counts.
_ORIGIN = frozenset({"source", "source_sha256", "weights"})


def load_run(
    folder: Path, which: Literal["last", "best"], solver: Serial | MGRIT, communicator: Communicator
) -> tuple[SequenceClassifier, Standardisation]:
    """Return the model of a run with its weights, and the standardisation of its features.

    Raises `DataError` where the folder is no run, or its files do not belong together.
    """
    run = RunFolder(folder)
    options = run.options()
    weights = run.load_weights(which)
    try:
        model = SequenceClassifier(ModelOptions(**options["model"]), solver, communicator)
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
