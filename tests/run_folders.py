"""Run folders as `seqbraid train` writes them, without a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SERIAL = {"solver": "serial"}
MGRIT = {
    "solver": "mgrit",
    "coarsening": 4,
    "levels": 2,
    "forward_iterations": 2,
    "backward_iterations": 1,
    "relaxation": "FCF",
    "coarse": "frozen",
    "tolerance": None,
}
SHARES = {"relaxation": 0.5, "coarse": 0.2, "communication": 0.15, "data": 0.05, "other": 0.1}


def options_of_run(
    class_names: Sequence[str], solver: dict[str, Any], epochs: int, **changes: Any
) -> dict[str, Any]:
    """Return options.json; `changes` are of any part of it, by name, or new ones of the training."""
    parts: dict[str, dict[str, Any]] = {
        "model": {
            "feature_size": 9,
            "classes": len(class_names),
            "hidden_size": 100,
            "num_layers": 1,
            "cell": "implicit",
            "gamma": 1.0,
        },
        "training": {"epochs": epochs, "batch_size": 100, "learning_rate": 1e-3, "seed": 0, "pad": "lengths"},
    }
    options: dict[str, Any] = {
        "seqbraid": "0.2.0",
        "data": "/data/features",
        "split": "1",
        "split_sha256": {"clips": "c" * 8, "marks": "m" * 8},
        "features": {"backbone": "resnet18", "frames": 40},
        "class_names": list(class_names),
        "solver": solver,
        "ranks": 4,
        "sequence_ranks": 4,
        "data_ranks": 1,
        "threads": 1,
    }
    for name, value in changes.items():
        part = next((part for part in parts.values() if name in part), None)
        if part is None and name not in options:
            part = parts["training"]
        (options if part is None else part)[name] = value
    return {**options, **parts}


def metrics_of_run(
    epochs: int, parallel: bool = True, levels: Sequence[int] = (), classes: int = 6, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; `levels` are those of the first epochs, 1 that of the others."""
    random = np.random.default_rng(seed)
    lines, work, residual = [], 0.0, float(parallel)
    for epoch in range(1, epochs + 1):
        level = levels[epoch - 1] if epoch <= len(levels) else 1
        work += 1 / level
        progress = 1 - np.exp(-work / 8)
        accuracy = float(np.clip(0.9 * progress + random.normal(scale=0.015), 0.05, 1))
        line: dict[str, Any] = {
            "epoch": epoch,
            "level": level,
            "updates": 7 * epoch,
            "work": work,
            "learning_rate": 1e-3,
            "train_loss": float(2.5 - 2.2 * progress),
            "train_accuracy": float(min(accuracy + 0.04, 1)),
            "test_loss": float(2.5 - 1.8 * progress + abs(random.normal(scale=0.05))),
            "test_accuracy": accuracy,
            "forward_residual": residual * float(10 ** random.uniform(-3, -2)),
            "backward_residual": residual * float(10 ** random.uniform(-4, -3)),
            "test_residual": residual * float(10 ** random.uniform(-3, -2)),
            "diverged_solves": 0,
            "train_seconds": 4.0 / level,
            "test_seconds": 0.5,
            "seconds": {kind: 4.0 / level * share for kind, share in SHARES.items()},
        }
        if classes > 5:
            line["test_top5"] = min(accuracy + 0.2, 1.0)
        lines.append(line)
    return lines


def old(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return metrics as version 0.1 wrote them."""
    new = ("level", "updates", "work", "learning_rate", "test_top5", "diverged_solves", "seconds")
    return [{name: value for name, value in line.items() if name not in new} for line in lines]


def confusion_of(accuracy: float, classes: int, each: int = 20, seed: int = 0) -> list[list[int]]:
    """Return counts of `each` sequences a class, about so many of them recognised."""
    random = np.random.default_rng(seed)
    rows = []
    for label in range(classes):
        others = random.dirichlet(np.full(classes, 0.1)) * (1 - accuracy)
        others[label] += accuracy
        rows.append(random.multinomial(each, others / others.sum()).tolist())
    return rows


def evaluation_of(epoch: int, classes: int, **accuracies: float) -> dict[str, Any]:
    """Return evaluation.json with the accuracy of `mgrit=`, `serial=`."""
    return {
        "epoch": epoch,
        "inference": {
            kind: {
                "loss": 0.8,
                "accuracy": accuracy,
                "residual": 0.0 if kind == "serial" else 1e-3,
                "seconds": 0.5,
                "confusion": confusion_of(accuracy, classes),
            }
            for kind, accuracy in accuracies.items()
        },
    }


def write_run(
    folder: Path,
    options: dict[str, Any],
    metrics: list[dict[str, Any]],
    evaluation: dict[str, Any] | None = None,
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True)
    (folder / "options.json").write_text(json.dumps(options), encoding="utf-8")
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8"
    )
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    return folder


def class_names(classes: int, ending: str = "") -> list[str]:
    return [f"class_{label:02}{ending}" for label in range(classes)]


def make_run(
    folder: Path, classes: int = 6, epochs: int = 3, solver: dict[str, Any] = MGRIT, **changes: Any
) -> Path:
    """Write a run with an evaluation; `metrics`, `evaluation`, `names`, `levels` stand in for its own."""
    names = changes.pop("names", class_names(classes))
    levels = changes.pop("levels", ())
    metrics = changes.pop("metrics", metrics_of_run(epochs, solver is MGRIT, levels, classes))
    accuracies = {"serial": 0.7} if solver is SERIAL else {"mgrit": 0.69, "serial": 0.7}
    evaluation = changes.pop("evaluation", evaluation_of(len(metrics), classes, **accuracies))
    return write_run(folder, options_of_run(names, solver, epochs, **changes), metrics, evaluation)
