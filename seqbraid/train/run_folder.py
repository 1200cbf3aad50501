"""A run folder: options, metrics line by line, weights, checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from seqbraid.data.store_header import HEADER
from seqbraid.errors import DataError, OptionsError
from seqbraid.files import write_text
from seqbraid.options.runs import Which
from seqbraid.train.checkpoints import Checkpoints
from seqbraid.train.config_file import write_config
from seqbraid.train.sealed import read_sealed, write_sealed

__all__ = ["RunFolder"]

_OPTIONS, _METRICS, _EVALUATION, _STOPPED = "options.json", "metrics.jsonl", "evaluation.json", "stopped"
_CONFIG = "config.toml"
_RESULTS = (_METRICS, _EVALUATION, _STOPPED, "last.pt", "best.pt")
_FOLDERS = ("checkpoints", "tensorboard")
_REQUIRED = {"features": dict, "class_names": list, "model": dict, "solver": dict, "training": dict}


class RunFolder:
    """What a training run leaves behind; every file is written to a temporary name and renamed.

    options.json     what was asked for, with the class names and what the features mean
    config.toml      every option, for `seqbraid train` to repeat the run
    metrics.jsonl    one JSON object an epoch
    evaluation.json  how the weights of the last epoch do on the test part, class by class
    last.pt          weights after the last epoch, with the features' mean and deviation
    best.pt          the same for the epoch with the highest accuracy on the watched part
    checkpoints/     states from which training can go on
    tensorboard/     scalars for TensorBoard, where they were asked for
    stopped          the name of the signal that stopped it, until it goes on
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def holds_a_run(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / _OPTIONS).is_file()

    def checkpoints(self, keep: int) -> Checkpoints:
        """Return the run's checkpoints."""
        return Checkpoints(self.folder / "checkpoints", keep)

    def create(self, options: dict[str, Any], overwrite: bool) -> None:
        """Make the folder and write the options.

        Raises `OptionsError` where a run lies there already and `overwrite` is false, and where files lie
        there that bear a run's names but are none.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OptionsError(f"{self.folder} is a file; choose another `output` for the run folder")
        results = [self.folder / name for name in _RESULTS]
        folders, config = [self.folder / name for name in _FOLDERS], self.folder / _CONFIG
        if self.holds_a_run:
            if not overwrite:
                raise OptionsError(
                    f"{self.folder} holds a run already; choose another `output`, or say `resume` to go on "
                    "with it, or `overwrite`"
                )
        elif (self.folder / HEADER).is_file():
            raise OptionsError(f"{self.folder} is a feature store; choose another `output` for the run")
        elif present := next((path for path in [*results, *folders, config] if path.exists()), None):
            raise OptionsError(
                f"{self.folder} is no run folder but holds {present.name}; choose another `output`"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in results:
            path.unlink(missing_ok=True)
        for path in folders:
            if path.exists():
                shutil.rmtree(path)
        self.write_options(options)

    def write_options(self, options: dict[str, Any]) -> None:
        """Write options.json; the run is under way from then on."""
        self._write(_OPTIONS, json.dumps(options, indent=2) + "\n")
        (self.folder / _STOPPED).unlink(missing_ok=True)

    def write_config(self, values: dict[str, Any]) -> None:
        """Write config.toml: options by their names there."""
        write_config(self.folder / _CONFIG, values, "seqbraid train --config THIS_FILE --output ANOTHER")

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

    def write_evaluation(self, epoch: int, inference: dict[str, dict[str, Any]]) -> None:
        """Write how the weights after an epoch do on the test part, for each solver of the inference."""
        self._write(_EVALUATION, json.dumps({"epoch": epoch, "inference": inference}) + "\n")

    @property
    def stopped_by(self) -> str | None:
        """The name of the signal that stopped the run, None where it was not stopped or went on."""
        try:
            return (self.folder / _STOPPED).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    def mark_stopped(self, signal: str) -> None:
        """Leave word that a signal stopped the run."""
        self._write(_STOPPED, signal + "\n")

    def save_weights(self, which: Which, tensors: dict[str, Any]) -> None:
        """Write last.pt or best.pt."""
        write_sealed(self.folder / f"{which}.pt", tensors)

    def load_weights(self, which: Which) -> dict[str, Any]:
        """Read last.pt or best.pt; raises `DataError` where it is missing or damaged."""
        path = self.folder / f"{which}.pt"
        if not path.exists():
            raise DataError(f"{path} does not exist; did the training finish an epoch?")
        try:
            return read_sealed(path)
        except DataError as error:
            raise DataError(f"{error}; train again") from error

    def _write(self, name: str, text: str) -> None:
        write_text(self.folder / name, text)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged ({what}); train again")
