"""What a run folder tells of a training: options, metrics by name, and the evaluation at its end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError
from seqbraid.options import MGRIT
from seqbraid.rnn import resolved
from seqbraid.train import RunFolder

__all__ = ["KINDS_OF_SECONDS", "MGRIT_DEFAULTS", "RunRecord", "read_run", "solver_words"]

# What the seconds of an epoch's training went into, with the words for it.
KINDS_OF_SECONDS = {
    "relaxation": "relaxation",
    "coarse": "coarse solve",
    "communication": "communication",
    "data": "data",
    "other": "other",
}

# What an older run does not tell of its solver was as it is by default.
MGRIT_DEFAULTS = asdict(resolved(MGRIT()))

_EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder tells of it, finished or not.

    `epochs` are the lines of metrics.jsonl, of which those of an older version lack some values. `inference`
    has the values of evaluation.json, `confusions` (classes, classes) its counts, rows true classes, both by
    solver, "mgrit" or "serial"; `evaluated_epoch` is that of the weights.
    """

    folder: Path
    options: dict[str, Any]
    epochs: list[dict[str, Any]]
    inference: dict[str, dict[str, Any]]
    confusions: dict[str, npt.NDArray[np.int64]]
    evaluated_epoch: int | None

    def series(self, name: str) -> npt.NDArray[np.float64]:
        """Return a metric of every epoch (epochs,), nan where it is missing.

        "seconds.data" is the value of "data" in "seconds". Raises `DataError` for what is no number.
        """
        return np.array([self._number(entry, name) for entry in self.epochs], dtype=np.float64)

    def last(self, name: str) -> float | None:
        """Return a metric of the last epoch; None where it is missing."""
        value = float(self.series(name)[-1]) if self.epochs else np.nan
        return None if np.isnan(value) else value

    @property
    def epoch_numbers(self) -> npt.NDArray[np.float64]:
        """The number of every epoch, from 1: (epochs,)."""
        numbers = self.series("epoch")
        return np.where(np.isnan(numbers), np.arange(1, len(numbers) + 1), numbers)

    @property
    def work(self) -> npt.NDArray[np.float64]:
        """Passes over the full training part up to the end of every epoch: (epochs,).

        What a run does not tell was done before there was nested iteration, by one pass an epoch.
        """
        work = self.series("work")
        return np.where(np.isnan(work), self.epoch_numbers, work)

    @property
    def best(self) -> int | None:
        """Index of the first epoch with the highest accuracy on the validation part, else the test part."""
        for name in ("validation_accuracy", "test_accuracy"):
            accuracy = self.series(name)
            if np.isfinite(accuracy).any():
                return int(np.nanargmax(accuracy))
        return None

    @property
    def planned_epochs(self) -> int | None:
        """How many epochs were asked for; None where the options do not say."""
        epochs = self.options["training"].get("epochs")
        return epochs if isinstance(epochs, int) else None

    def _number(self, entry: dict[str, Any], name: str) -> float:
        value: Any = entry
        for word in name.split("."):
            value = value.get(word) if isinstance(value, dict) else None
        if value is None:
            return np.nan
        if not isinstance(value, int | float):
            raise DataError(
                f"{self.folder / 'metrics.jsonl'} is damaged ({name} is {value!r}, which is no number); "
                "train again"
            )
        return float(value)


def read_run(folder: Path) -> RunRecord:
    """Read a run folder; raises `DataError` where it is none, or a file in it is damaged."""
    run = RunFolder(folder)
    options = run.options()
    evaluation = _read_evaluation(folder)
    inference, epoch = evaluation.get("inference", {}), evaluation.get("epoch")
    if not isinstance(inference, dict) or not all(isinstance(values, dict) for values in inference.values()):
        raise _damaged(folder, "inference is no object of objects")
    confusions = {
        kind: _confusion(folder, values["confusion"], len(options["class_names"]))
        for kind, values in inference.items()
        if "confusion" in values
    }
    return RunRecord(
        folder, options, run.metrics(), inference, confusions, epoch if isinstance(epoch, int) else None
    )


def _read_evaluation(folder: Path) -> dict[str, Any]:
    try:
        evaluation = json.loads((folder / _EVALUATION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damaged(folder, str(error)) from error
    if not isinstance(evaluation, dict):
        raise _damaged(folder, f"it holds a {type(evaluation).__name__}")
    return evaluation


def _confusion(folder: Path, counts: Any, classes: int) -> npt.NDArray[np.int64]:
    try:
        confusion = np.array(counts)
    except ValueError:
        confusion = np.empty(0)
    if confusion.shape != (classes, classes) or confusion.dtype.kind != "i" or confusion.min() < 0:
        raise _damaged(folder, f"confusion is no table of {classes} x {classes} counts")
    return confusion.astype(np.int64)


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"{folder / _EVALUATION} is damaged ({what}); remove it, and evaluate the run again")


def solver_words(solver: dict[str, Any]) -> str:
    """Return the solver of a run's options in a few words: `mgrit c=4 FCF 2+1`, iterations each way."""
    if solver.get("solver") != "mgrit":
        return str(solver.get("solver", "unknown"))
    values = MGRIT_DEFAULTS | solver
    if values["levels"] == 1:
        return "mgrit, one level"
    levels = "" if values["levels"] == 2 else f" {values['levels']} levels"
    coarse = "" if values["coarse"] == "frozen" else f" {values['coarse']}"
    count = (
        f"{values['forward_iterations']}+{values['backward_iterations']}"
        if values["tolerance"] is None
        else f"to {values['tolerance']}"
    )
    return f"mgrit c={values['coarsening']}{levels} {values['relaxation']}{coarse} {count}"
