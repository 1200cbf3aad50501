"""A classifier measured under serial and under parallel inference."""

from __future__ import annotations

import numpy as np
import torch

from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import Batches, Evaluation, SequenceClassifier, evaluate

__all__ = ["both_inferences", "table_of_classes", "table_of_inferences"]


def both_inferences(model: SequenceClassifier, batches: Batches, parallel: MGRIT) -> dict[str, Evaluation]:
    """Return how the model does on `batches` with the solver `parallel`, and serially; collective.

    The model keeps its solver.
    """
    before, found = model.gru.solver, {}
    solvers: dict[str, Serial | MGRIT] = {"mgrit": parallel, "serial": Serial()}
    try:
        for name, solver in solvers.items():
            model.gru.solver = solver
            _load_kernels(model, batches)
            found[name] = evaluate(model, batches)
    finally:
        model.gru.solver = before
    return found


def _load_kernels(model: SequenceClassifier, batches: Batches) -> None:
    """Solve for one sequence: the seconds of an evaluation would be those of loading kernels else."""
    model.eval()
    with torch.no_grad():
        for batch in batches.in_order(np.arange(1)):
            model(batch.x, batch.lengths)


def table_of_inferences(found: dict[str, Evaluation]) -> str:
    """Return one line for each."""
    lines = []
    for name, result in found.items():
        top5 = "" if result.top5 is None else f"  top-5 {result.top5:.4f}"
        residual = f"  residual {result.residual:.1e}" if name == "mgrit" else ""
        lines.append(
            f"{name:<6} inference: accuracy {result.accuracy:.4f}{top5}  loss {result.loss:.4f}  "
            f"{result.seconds:.1f} s{residual}"
        )
    return "\n".join(lines)


def table_of_classes(result: Evaluation, names: list[str]) -> str:
    """Return one line for each class: recognised, sequences, and what it is most often taken for."""
    width = max(map(len, names))
    lines = []
    for index, (name, share) in enumerate(zip(names, result.accuracy_of_classes.tolist(), strict=True)):
        row = result.confusion[index].copy()
        count = int(row.sum())
        row[index] = 0
        mistaken = f"  {row.max()} taken for {names[int(row.argmax())]}" if row.any() else ""
        accuracy = "none here" if count == 0 else f"{share:.4f} of {count}"
        lines.append(f"  {name:<{width}}  {accuracy}{mistaken}")
    return "\n".join(lines)
