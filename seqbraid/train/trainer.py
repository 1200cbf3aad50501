"""Training and evaluation of a classifier whose sequences are split over ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqbraid.comm import Communicator
from seqbraid.data.dataset import Part
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import SeqbraidError
from seqbraid.progress import progress_bar
from seqbraid.train.model import SequenceClassifier

__all__ = ["Evaluation", "TimeSlice", "TrainingOptions", "TrainingStoppedError", "evaluate", "train"]


class TrainingStoppedError(SeqbraidError):
    """Training cannot go on; the message says why."""

    exit_code = 3


@dataclass(frozen=True)
class TrainingOptions:
    """Cross entropy by Adam: `epochs`, `batch_size` sequences a step, `learning_rate`, and one `seed`."""

    epochs: int = 10
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class TimeSlice:
    """Steps `start` ... `stop` - 1 of sequences of `total` steps: those that this rank holds."""

    start: int
    stop: int
    total: int


@dataclass(frozen=True)
class Evaluation:
    """Mean cross entropy, accuracy (0 to 1), the largest residual of a solve, and wall seconds."""

    loss: float
    accuracy: float
    residual: float
    seconds: float


def _batch(
    part: Part, indices: np.ndarray[Any, np.dtype[np.int64]], held: TimeSlice, standardise: Standardisation
) -> tuple[Tensor, Tensor, list[int] | None]:
    """Return x (local steps, B, F), labels (B,), and lengths (None where all are full)."""
    x = standardise(torch.from_numpy(part.load(indices, held.start, held.stop)))
    lengths: list[int] = part.lengths[indices].tolist()
    labels = torch.from_numpy(part.labels[indices])
    return x.transpose(0, 1), labels, None if min(lengths) == held.total else lengths


def evaluate(
    model: SequenceClassifier,
    part: Part,
    held: TimeSlice,
    standardise: Standardisation,
    batch_size: int,
    rank: int = 0,
) -> Evaluation:
    """Return loss and accuracy over a part; collective over the ranks of the model."""
    start = time.perf_counter()
    loss, correct, residual = 0.0, 0, 0.0
    model.eval()
    with torch.no_grad(), progress_bar(len(part), "evaluate", "seq", rank) as bar:
        for first in range(0, len(part), batch_size):
            indices = np.arange(first, min(first + batch_size, len(part)))
            x, labels, lengths = _batch(part, indices, held, standardise)
            logits = model(x, lengths)
            loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            correct += int((logits.argmax(dim=1) == labels).sum())
            residual = max(residual, model.gru.last_solve.forward_residual)
            bar.update(len(indices))
    return Evaluation(loss / len(part), correct / len(part), residual, time.perf_counter() - start)


def train(
    model: SequenceClassifier,
    train_part: Part,
    test_part: Part,
    held: TimeSlice,
    standardise: Standardisation,
    options: TrainingOptions,
    communicator: Communicator,
    after_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Train for `options.epochs`, calling `after_epoch(metrics)` on every rank after each; collective.

    Every rank draws the same batches from the seed. Raises `TrainingStoppedError` for a loss that is not
    finite.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    order = np.random.default_rng(options.seed)
    _synchronise(model, communicator)
    for epoch in range(1, options.epochs + 1):
        metrics = _train_epoch(
            model,
            train_part,
            held,
            standardise,
            options,
            optimizer,
            order.permutation(len(train_part)),
            epoch,
            communicator.rank,
        )
        # Ranks make the same updates; this keeps machines that round differently from drifting apart.
        _synchronise(model, communicator)
        test = evaluate(model, test_part, held, standardise, options.batch_size, communicator.rank)
        metrics |= {
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "test_residual": test.residual,
            "test_seconds": test.seconds,
        }
        after_epoch(metrics)


def _train_epoch(
    model: SequenceClassifier,
    part: Part,
    held: TimeSlice,
    standardise: Standardisation,
    options: TrainingOptions,
    optimizer: torch.optim.Optimizer,
    order: np.ndarray[Any, np.dtype[np.int64]],
    epoch: int,
    rank: int,
) -> dict[str, Any]:
    start = time.perf_counter()
    total, correct, forward_residual, backward_residual = 0.0, 0, 0.0, 0.0
    model.train()
    with progress_bar(len(part), f"epoch {epoch}/{options.epochs}", "seq", rank) as bar:
        for first in range(0, len(part), options.batch_size):
            indices = order[first : first + options.batch_size]
            x, labels, lengths = _batch(part, indices, held, standardise)
            logits = model(x, lengths)
            loss = nn.functional.cross_entropy(logits, labels)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingStoppedError(
                    f"the loss is {value} in epoch {epoch}, sequence {first} of {len(part)}; "
                    "take a smaller learning rate (--lr), or look for extreme values in the data"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value * len(indices)
            correct += int((logits.argmax(dim=1) == labels).sum())
            solve = model.gru.last_solve
            forward_residual = max(forward_residual, solve.forward_residual)
            backward_residual = max(backward_residual, solve.backward_residual)
            bar.update(len(indices))
            bar.set_postfix(loss=f"{total / (first + len(indices)):.3f}", refresh=False)
    return {
        "epoch": epoch,
        "train_loss": total / len(part),
        "train_accuracy": correct / len(part),
        "train_seconds": time.perf_counter() - start,
        "forward_residual": forward_residual,
        "backward_residual": backward_residual,
    }


def _synchronise(model: nn.Module, communicator: Communicator) -> None:
    """Give every rank the parameters of rank 0."""
    if communicator.size == 1:
        return
    parameters = [parameter.detach() for parameter in model.parameters()]
    vector = nn.utils.parameters_to_vector(parameters)
    communicator.broadcast(vector, 0, "parameters of rank 0")
    nn.utils.vector_to_parameters(vector, parameters)
