"""A run folder: options, metrics line by line, and the best and the last weights."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from seqbraid.errors import DataError, OptionsError

__all__ = ["RunFolder"]

_OPTIONS, _METRICS = "options.json", "metrics.jsonl"


class RunFolder:
    """What a training run leaves behind; every file is written to a temporary name and renamed.

    options.json    what was asked for, with the class names and what the features mean
    metrics.jsonl   one JSON object an epoch
    last.pt         weights after the last epoch, with the features' mean and deviation
    best.pt         the same for the epoch with the highest test accuracy
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def create(self, options: dict[str, Any], overwrite: bool) -> None:
        """Make the folder and write the options.

        Raises `OptionsError` where a run lies there already and `overwrite` is false.
        """
        if (self.folder / _OPTIONS).exists() and not overwrite:
            raise OptionsError(
                f"{self.folder} holds a run already; choose another --output, or say --overwrite"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (_METRICS, "last.pt", "best.pt"):
            (self.folder / name).unlink(missing_ok=True)
        self._write(_OPTIONS, json.dumps(options, indent=2) + "\n")

    def options(self) -> dict[str, Any]:
        """Read options.json; raises `DataError` where the folder is no run."""
        try:
            options: dict[str, Any] = json.loads((self.folder / _OPTIONS).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{self.folder} is not a run folder: it has no {_OPTIONS}") from error
        except ValueError as error:
            raise DataError(f"{self.folder / _OPTIONS} is damaged ({error})") from error
        return options

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Write all epochs' metrics so far, one JSON object a line."""
        self._write(_METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def metrics(self) -> list[dict[str, Any]]:
        """Read the epochs' metrics."""
        path = self.folder / _METRICS
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def save_weights(self, which: Literal["last", "best"], tensors: dict[str, Any]) -> None:
        """Write last.pt or best.pt."""
        path = self.folder / f"{which}.pt"
        temporary = path.with_suffix(".tmp")
        torch.save(tensors, temporary)
        temporary.replace(path)

    def load_weights(self, which: Literal["last", "best"]) -> dict[str, Tensor]:
        """Read last.pt or best.pt; raises `DataError` where it is missing or damaged."""
        path = self.folder / f"{which}.pt"
        try:
            tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist; did the training finish an epoch?") from error
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(f"{path} is damaged or not a file of weights; train again") from error
        return tensors

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        temporary = path.with_suffix(path.suffix + ".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
