"""A trained run brought back: options, model and standardisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from seqbraid.comm import Communicator
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import DataError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import ModelOptions, RunFolder, SequenceClassifier

__all__ = ["load_run", "require_same_features"]


def load_run(
    folder: Path, which: Literal["last", "best"], solver: Serial | MGRIT, communicator: Communicator
) -> tuple[SequenceClassifier, Standardisation]:
    """Return the model of a run with its weights, and the standardisation of its features.

    Raises `DataError` where the folder is no run, or its files do not belong together.
    """
    run = RunFolder(folder)
    options = run.options()
    weights: dict[str, Any] = run.load_weights(which)
    try:
        model = SequenceClassifier(ModelOptions(**options["model"]), solver, communicator)
        model.load_state_dict(weights["model"])
        standardise = Standardisation(weights["mean"], weights["deviation"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{folder}: options.json and {which}.pt do not belong together ({reason})") from error
    torch.set_grad_enabled(False)
    return model.eval(), standardise


def require_same_features(run: Path, trained: dict[str, Any], data: Path, given: dict[str, Any]) -> None:
    """Raise `DataError` naming the first option by which `data` differs from what the run was trained on."""
    for name in sorted(trained.keys() | given.keys()):
        # Equal weights may come from different places; their hash is what counts.
        if name == "weights" or trained.get(name) == given.get(name):
            continue
        raise DataError(
            f"{data} was made with {name} = {given.get(name, 'nothing')}, but {run} was trained on features with "
            f"{name} = {trained.get(name, 'nothing')}; make features with the same options, or train anew"
        )
