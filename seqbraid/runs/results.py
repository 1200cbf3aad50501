"""What came of a run, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seqbraid.runs.record import KINDS_OF_SECONDS, RunRecord

__all__ = ["LINES", "results_of_run"]

Results = dict[str, float | None]

_LAST = (
    "test_accuracy",
    "test_loss",
    "test_top5",
    "validation_accuracy",
    "validation_loss",
    "train_accuracy",
    "train_loss",
    "learning_rate",
    "updates",
    "forward_residual",
    "backward_residual",
    "test_residual",
)


def results_of_run(record: RunRecord) -> Results:
    """Return the numbers of a run, None for those that it lacks.

    Metrics are those of the last epoch, seconds and diverged solves those of all; a share_ is a fraction of
    the training's seconds. `best_test_accuracy` is that of `best_epoch`.
    """
    results: Results = {
        "epochs_done": float(len(record.epochs)),
        "epochs_planned": record.planned_epochs,
        "work": float(record.work[-1]),
        **{name: record.last(name) for name in _LAST},
    }
    best = record.best
    if best is not None:
        results["best_epoch"] = float(record.epoch_numbers[best])
        results["best_test_accuracy"] = _known(record.series("test_accuracy")[best])
    for name in ("train_seconds", "test_seconds"):
        results[name] = _over_epochs(record, name, np.sum)
        results[f"median_{name}"] = _over_epochs(record, name, np.median)
    results["diverged_solves"] = _over_epochs(record, "diverged_solves", np.sum)
    seconds = {kind: _over_epochs(record, f"seconds.{kind}", np.sum) or 0.0 for kind in KINDS_OF_SECONDS}
    total = sum(seconds.values())
    for kind, value in seconds.items():
        results[f"share_{kind}"] = value / total if total else None
    for kind, values in record.inference.items():
        for name, value in values.items():
            if isinstance(value, int | float):
                results[f"{kind}_inference_{name}"] = value
    return results


def _over_epochs(record: RunRecord, name: str, function: Callable[[Any], Any]) -> float | None:
    """Return a function of all values that the run has of a metric; None where it has none."""
    values = record.series(name)
    values = values[~np.isnan(values)]
    return float(function(values)) if len(values) else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _of(name: str, form: str) -> Callable[[Results], str]:
    """Return what writes a number in the form, - where a run lacks it."""

    def write(results: Results) -> str:
        value = results.get(name)
        return "-" if value is None else format(value, form)

    return write


def _best(results: Results) -> str:
    accuracy, epoch = results.get("best_test_accuracy"), results.get("best_epoch")
    return "-" if accuracy is None else f"{accuracy:.4f}, epoch {epoch:g}"


def _epochs(results: Results) -> str:
    done, planned = results["epochs_done"], results["epochs_planned"]
    return f"{done:g}" if planned in (None, done) else f"{done:g} of {planned:g}"


def _residual(name: str) -> Callable[[Results], str]:
    """Return what writes a residual, and - where it is 0, as those of the serial solver are."""

    def write(results: Results) -> str:
        value = results.get(name)
        return "-" if not value else f"{value:.1e}"

    return write


def _inference(kind: str) -> Callable[[Results], str]:
    """Return what writes the accuracy of one inference where a run has both."""

    def write(results: Results) -> str:
        both = [results.get(f"{each}_inference_accuracy") for each in ("mgrit", "serial")]
        return "-" if None in both else f"{results[f'{kind}_inference_accuracy']:.4f}"

    return write


# The lines of the table: what each is called, and how it is written.
LINES: dict[str, Callable[[Results], str]] = {
    "test accuracy, last": _of("test_accuracy", ".4f"),
    "test accuracy, best": _best,
    "test loss": _of("test_loss", ".4f"),
    "test top 5": _of("test_top5", ".4f"),
    "validation accuracy": _of("validation_accuracy", ".4f"),
    "MGRIT inference": _inference("mgrit"),
    "serial inference": _inference("serial"),
    "epochs": _epochs,
    "work": _of("work", ".5g"),
    "seconds an epoch": _of("median_train_seconds", ".3g"),
    **{f"time: {word}": _of(f"share_{kind}", ".0%") for kind, word in KINDS_OF_SECONDS.items()},
    "residual, forward": _residual("forward_residual"),
    "residual, backward": _residual("backward_residual"),
    "residual, test": _residual("test_residual"),
    "diverged solves": _of("diverged_solves", "g"),
}
