from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from seqbraid.comm import ProcessGrid
from seqbraid.data.dataset import Part
from seqbraid.data.standardisation import Standardisation
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import (
    Batches,
    Evaluation,
    ModelOptions,
    NonFiniteError,
    SequenceClassifier,
    TimeSlice,
    Trainer,
    TrainingData,
    TrainingOptions,
    evaluate,
)

STEPS, SIZE, CLASSES = 8, 3, 2
HELD = TimeSlice(0, STEPS, STEPS)
IDENTITY = Standardisation(torch.zeros(SIZE), torch.ones(SIZE))


def make_part(count: int, seed: int, ragged: bool = True) -> Part:
    """Return sequences whose class is the sign of their first feature's mean."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    x = random.normal(0.0, 1.0, (count, STEPS, SIZE)).astype(np.float32)
    x[:, :, 0] += np.where(labels == 1, 1.0, -1.0)[:, None]
    lengths = random.integers(4, STEPS + 1, count) if ragged else np.full(count, STEPS)
    return Part(labels, lengths.astype(np.int64), lambda indices, start, stop: x[indices, start:stop])


def make_model(solver: Serial | MGRIT, seed: int = 0) -> SequenceClassifier:
    torch.manual_seed(seed)
    return SequenceClassifier(ModelOptions(SIZE, CLASSES, hidden_size=6), solver)


def run_training(
    options: TrainingOptions, solver: Serial | MGRIT | None = None
) -> tuple[SequenceClassifier, list[dict[str, Any]]]:
    model = make_model(solver or Serial(), options.seed)
    epochs: list[dict[str, Any]] = []
    data = TrainingData(make_part(23, 0), make_part(9, 1), HELD, IDENTITY)
    Trainer(model, data, options).run(lambda metrics, test: epochs.append(metrics))
    return model, epochs


def measure(model: SequenceClassifier, part: Part, batch_size: int) -> Evaluation:
    return evaluate(model, Batches(part, HELD, IDENTITY, batch_size, ProcessGrid()))


def losses(epochs: list[dict[str, Any]]) -> list[float]:
    return [epoch["train_loss"] for epoch in epochs]


@pytest.mark.parametrize("solver", [Serial(), MGRIT(coarsening=2)])
def test_training_repeats_itself_by_its_seed(solver: Serial | MGRIT) -> None:
    options = TrainingOptions(epochs=2, batch_size=10, learning_rate=0.01, seed=5)
    first, history = run_training(options, solver)
    torch.rand(7)  # what was drawn meanwhile does not count
    second, again = run_training(options, solver)
    assert losses(history) == losses(again)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    _, others = run_training(TrainingOptions(epochs=2, batch_size=10, learning_rate=0.01, seed=6), solver)
    assert losses(others) != losses(history)


def test_training_learns_and_its_last_epoch_is_what_evaluation_finds() -> None:
    model, epochs = run_training(TrainingOptions(epochs=15, batch_size=10, learning_rate=0.02))
    assert epochs[-1]["train_loss"] < 0.5 * epochs[0]["train_loss"]
    assert epochs[-1]["train_accuracy"] > 0.9
    result = measure(model, make_part(9, 1), 10)
    assert result.accuracy == epochs[-1]["test_accuracy"]
    assert result.loss == epochs[-1]["test_loss"]


def test_one_epoch_is_the_plain_loop_with_a_smaller_last_batch() -> None:
    options = TrainingOptions(epochs=1, batch_size=10, learning_rate=0.01, seed=2)
    model, epochs = run_training(options)

    part = make_part(23, 0)
    torch.manual_seed(2)
    gru, head = nn.GRU(SIZE, 6), nn.Linear(6, CLASSES)
    fresh = make_model(Serial(), 2)
    gru.load_state_dict({name: value for name, value in fresh.gru.state_dict().items()})
    head.load_state_dict(fresh.head.state_dict())
    optimizer = torch.optim.Adam([*gru.parameters(), *head.parameters()], lr=0.01)
    order = np.random.default_rng(2).permutation(23)
    total = 0.0
    for indices in (order[:10], order[10:20], order[20:]):
        x = torch.from_numpy(part.load(indices, 0, STEPS)).transpose(0, 1)
        packed = nn.utils.rnn.pack_padded_sequence(
            x, torch.from_numpy(part.lengths[indices]), enforce_sorted=False
        )
        logits = head(gru(packed)[1][-1])
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(part.labels[indices]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(indices)
    assert epochs[0]["train_loss"] == pytest.approx(total / 23, rel=1e-5)
    for name, value in gru.state_dict().items():
        torch.testing.assert_close(model.gru.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_evaluation_does_not_depend_on_the_batch_size() -> None:
    model, part = make_model(Serial()), make_part(23, 0)
    whole = measure(model, part, 100)
    for size in (1, 7, 23):
        pieces = measure(model, part, size)
        assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
        assert pieces.accuracy == whole.accuracy


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = make_model(Serial())
    with torch.no_grad():
        model.head.bias.fill_(torch.inf)
    data = TrainingData(make_part(6, 0), make_part(4, 1), HELD, IDENTITY)
    with pytest.raises(NonFiniteError, match=r"nan in epoch 1, sequence 0 of 6; take a smaller"):
        Trainer(model, data, TrainingOptions()).run(lambda metrics, test: None)
