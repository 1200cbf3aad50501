"""A run folder: options, metrics line by line, and the best and the last weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from seqbraid.errors import DataError, OptionsError
from seqbraid.files import write_text

__all__ = ["RunFolder"]

_OPTIONS, _METRICS = "options.json", "metrics.jsonl"
_REQUIRED = {"features": dict, "class_names": list, "model": dict, "solver": dict, "training": dict}


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

        Raises `OptionsError` where a run lies there already and `overwrite` is false, and where files lie
        there that bear a run's names but are none.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OptionsError(f"{self.folder} is a file; choose another --output for the run folder")
        results = [self.folder / name for name in (_METRICS, "last.pt", "best.pt")]
        if (self.folder / _OPTIONS).exists():
            if not overwrite:
                raise OptionsError(
                    f"{self.folder} holds a run already; choose another --output, or say --overwrite"
                )
        elif any(path.exists() for path in results):
            present = next(path for path in results if path.exists())
            raise OptionsError(
                f"{self.folder} is no run folder but holds {present.name}; choose another --output"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in results:
            path.unlink(missing_ok=True)
        self._write(_OPTIONS, json.dumps(options, indent=2) + "\n")

    def options(self) -> dict[str, Any]:
        """Read options.json; raises `DataError` where it is missing, damaged or lacks what a run has."""
        path = self.folder / _OPTIONS
        try:
            options: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(
                f"{self.folder} is not a run folder: it has no {_OPTIONS}; `seqbraid train` makes one"
            ) from error
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        if not isinstance(options, dict):
            raise _damaged(path, f"it holds a {type(options).__name__}")
        for name, kind in _REQUIRED.items():
            if not isinstance(options.get(name), kind):
                raise _damaged(
                    path, f"{name} is missing" if name not in options else f"{name} is no {kind.__name__}"
                )
        return options

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Write all epochs' metrics so far, one JSON object a line."""
        self._write(_METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def metrics(self) -> list[dict[str, Any]]:
        """Read the epochs' metrics so far; raises `DataError` where the file is damaged."""
        path = self.folder / _METRICS
        try:
            epochs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise _damaged(path, str(error)) from error
        if not all(isinstance(epoch, dict) for epoch in epochs):
            raise _damaged(path, "a line is no JSON object")
        return epochs

    def save_weights(self, which: Literal["last", "best"], tensors: dict[str, Any]) -> None:
        """Write last.pt or best.pt."""
        path = self.folder / f"{which}.pt"
        temporary = path.with_name(path.name + ".tmp")
        # Through a file of Python's: a full disk is then an OSError, not an assertion of torch's own writer.
        with temporary.open("wb") as file:
            torch.save(tensors, file)
        temporary.replace(path)

    def load_weights(self, which: Literal["last", "best"]) -> dict[str, Any]:
        """Read last.pt or best.pt; raises `DataError` where it is missing or damaged."""
        path = self.folder / f"{which}.pt"
        if not path.exists():
            raise DataError(f"{path} does not exist; did the training finish an epoch?")
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:
            # Garbage makes torch.load raise almost anything, and its advice is to load unsafely.
            raise _damaged(path, "not a file of weights") from error
        if not isinstance(tensors, dict):
            raise _damaged(path, f"it holds a {type(tensors).__name__}")
        return tensors

    def _write(self, name: str, text: str) -> None:
        write_text(self.folder / name, text)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged ({what}); train again")
