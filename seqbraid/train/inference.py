"""A classifier measured under serial and under parallel inference."""

from __future__ import annotations

import numpy as np
import torch

from seqbraid.options import MGRIT, Serial
from seqbraid.train.batches import Batches
from seqbraid.train.evaluation import Evaluation, evaluate
from seqbraid.train.model import SequenceClassifier

__all__ = ["both_inferences"]


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
