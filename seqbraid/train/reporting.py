"""What is said of a training while it runs."""

from __future__ import annotations

from typing import Any

from seqbraid.comm import ProcessGrid
from seqbraid.data.dataset import Dataset, Part
from seqbraid.options import MGRIT, Serial
from seqbraid.options.words import describe_solver

__all__ = ["describe_setup", "line_of_epoch"]


def describe_setup(
    dataset: Dataset,
    train: Part,
    validation: Part | None,
    pad: str,
    steps: int,
    grid: ProcessGrid,
    threads: int,
    solver: Serial | MGRIT,
) -> str:
    """Return data, ranks and solver in three lines."""
    held_back = "" if validation is None else f", {len(validation)} validation"
    what = {"zeros": "zeros", "repeat-last": "the last step of each"}
    padding = "true lengths" if pad == "lengths" else f"padded to {steps} steps with {what[pad]}"
    split = "" if dataset.split is None else f"split {dataset.split}, "
    ranks, groups = grid.world.size, grid.data.size
    shape = "" if groups == 1 else f" ({grid.sequence.size} along the sequence, {groups} groups of data)"
    return (
        f"{len(train)} training{held_back} and {len(dataset.test)} test sequences of up to {dataset.steps} "
        f"steps, {dataset.feature_size} features, {len(dataset.class_names)} classes\n"
        f"{split}{padding}\n"
        f"{ranks} rank{'s' if ranks > 1 else ''}{shape} x {threads} thread{'s' if threads > 1 else ''}, "
        f"{describe_solver(solver)}"
    )


def line_of_epoch(metrics: dict[str, Any], epochs: int) -> str:
    """Return an epoch's metrics in one line."""
    seconds = metrics["train_seconds"] + metrics["test_seconds"]
    words = [
        f"epoch {metrics['epoch']}/{epochs}",
        f"loss {metrics['train_loss']:.4f}",
        f"train {metrics['train_accuracy']:.4f}",
        f"test {metrics['test_accuracy']:.4f}",
    ]
    if "validation_accuracy" in metrics:
        words.append(f"validation {metrics['validation_accuracy']:.4f}")
    words.append(f"{seconds:.1f} s")
    if metrics["level"] > 1:
        words.append(f"{metrics['level']} times coarser in time")
    if metrics["solver"] == "mgrit":
        words.append(
            f"residual forward {metrics['forward_residual']:.1e} backward {metrics['backward_residual']:.1e}"
        )
    if metrics["diverged_solves"]:
        words.append(f"{metrics['diverged_solves']} solves diverged")
    return "  ".join(words)
