from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from train.training_cases import ignore, make_trainer, weights_of
from train.training_cases import make_part as make_small_part

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


def run_case(**options: Any) -> Trainer:
    trainer = make_trainer(TrainingOptions(**{"batch_size": 10, "learning_rate": 0.02, **options}))
    trainer.run(ignore)
    return trainer


def test_without_progress_training_ends_early() -> None:
    trainer = run_case(epochs=40, patience=2, learning_rate=1.0, seed=1)
    losses = [metrics["test_loss"] for metrics in trainer.history]
    assert len(losses) < 40
    assert int(np.argmin(losses)) == len(losses) - 3
    assert trainer.patience_left == 0
    assert len(run_case(epochs=4, patience=4).history) == 4


def test_gradients_are_clipped_to_their_norm_together() -> None:
    free = run_case(epochs=1, clip_norm=1e9)
    largest = free.history[0]["gradient_norm"]
    assert largest > 0
    # With a step by plain gradients, the weights move by at most rate x norm an update.
    clipped = run_case(epochs=1, clip_norm=largest / 100, optimizer="sgd", momentum=0.0)
    start = weights_of(make_trainer(TrainingOptions()))
    moved = float((weights_of(clipped) - start).norm())
    assert 0 < moved <= 3 * 0.02 * largest / 100 * (1 + 1e-5)


def test_a_validation_part_is_watched_in_place_of_the_test_part() -> None:
    trainer = make_trainer(TrainingOptions(epochs=3, batch_size=10), validation=True)
    trainer.run(ignore)
    assert trainer.watched == "validation"
    accuracies = [metrics["validation_accuracy"] for metrics in trainer.history]
    assert trainer.best_epoch == 1 + int(np.argmax(accuracies))


def test_nested_levels_train_on_coarse_sequences_and_are_measured_on_fine_ones() -> None:
    trainer = make_trainer(TrainingOptions(epochs=3, batch_size=23, nested_levels=1, learning_rate=1e-9))
    trainer.model.dropout = trainer.model.gru.dropout = 0.0
    trainer.run(ignore)
    assert [metrics["level"] for metrics in trainer.history] == [2, 1, 1]
    assert [metrics["work"] for metrics in trainer.history] == [0.5, 1.5, 2.5]
    # The loss of the coarse epoch is that of a cell of step 2 on means of two steps.
    part = make_small_part(23, 0)
    x = torch.from_numpy(part.load(np.arange(23), 0, STEPS))
    coarse = torch.zeros(23, STEPS // 2, SIZE)
    for row, length in enumerate(part.lengths.tolist()):
        for step in range(-(-length // 2)):
            coarse[row, step] = x[row, 2 * step : min(2 * step + 2, length)].mean(0)
    model = trainer.model
    assert model.gru.gamma == 1.0
    model.gru.gamma = 2.0
    logits = model(coarse.transpose(0, 1), (-(-part.lengths // 2)).tolist())
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(part.labels))
    assert trainer.history[0]["train_loss"] == pytest.approx(expected.item(), rel=1e-5)
    model.gru.gamma = 1.0
    test = make_small_part(9, 1)
    logits = model(torch.from_numpy(test.load(np.arange(9), 0, STEPS)).transpose(0, 1), test.lengths.tolist())
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(test.labels))
    assert trainer.history[0]["test_loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    model = make_trainer(TrainingOptions()).model
    x = torch.randn(STEPS, 4, SIZE)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_an_epoch_tells_where_its_seconds_went() -> None:
    metrics = run_case(epochs=1).history[0]
    assert set(metrics["seconds"]) == {"relaxation", "coarse", "communication", "data", "other"}
    assert sum(metrics["seconds"].values()) == pytest.approx(metrics["train_seconds"])
    assert all(seconds >= 0 for seconds in metrics["seconds"].values())
    assert metrics["seconds"]["relaxation"] > 0
    assert metrics["seconds"]["coarse"] == 0  # of the serial solver
