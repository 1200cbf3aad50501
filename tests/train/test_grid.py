"""Training does not depend on how the ranks divide a batch and its sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from train.training_cases import ignore, make_trainer, weights_of

import seqbraid as sb
from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import TrainingOptions

# 23 sequences in batches of 6 leave one of 5: on four groups shares are unequal, or empty where batches of 11
# leave one of 1.
GRIDS = [(4, 1), (2, 2), (1, 4), (1, 3)]
EXACT = MGRIT(coarsening=2, tolerance=1e-13)


def train(options: TrainingOptions, solver: Serial | MGRIT, grid: ProcessGrid) -> tuple[Tensor, list[Any]]:
    trainer = make_trainer(options, solver, grid, dtype=torch.float64, validation=True)
    # Its seeds come from torch's generator, which simulated ranks share; the head's dropout stays.
    trainer.model.gru.dropout = 0.0
    trainer.run(ignore)
    return weights_of(trainer), trainer.history


@pytest.mark.parametrize(
    ("options", "solver"),
    [
        ({"batch_size": 6, "clip_norm": 0.3, "class_weights": "balanced"}, EXACT),
        ({"batch_size": 11, "label_smoothing": 0.1, "optimizer": "sgd"}, Serial()),
        ({"batch_size": 23, "optimizer": "lbfgs"}, Serial()),
    ],
    ids=["adam", "sgd", "lbfgs"],
)
def test_all_grids_end_at_the_same_weights(options: dict[str, Any], solver: Serial | MGRIT) -> None:
    training = TrainingOptions(epochs=1, learning_rate=0.01, seed=3, **options)
    expected, history = train(training, solver, ProcessGrid())

    for sequence, data in GRIDS:

        def one_rank(
            communicator: Communicator, sequence: int = sequence, data: int = data
        ) -> tuple[Tensor, list[Any]]:
            return train(training, solver, ProcessGrid(communicator, sequence, data))

        for found, metrics in sb.SimulatedWorld(sequence * data).run(one_rank):
            # Adam divides by small moments, and L-BFGS searches along lines: both magnify rounding.
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-8)
            for one, other in zip(metrics, history, strict=True):
                for name in ("train_accuracy", "test_accuracy", "validation_accuracy"):
                    assert one[name] == other[name]
                assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-8)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_is_dropped_between_layers_depends_on_no_grid(
    grid: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In place of torch's generator, which simulated ranks share.
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(7))
    options = TrainingOptions(epochs=1, batch_size=11, learning_rate=0.01, optimizer="sgd")

    def train(communicator: Communicator | None, shape: tuple[int, int]) -> Tensor:
        trainer = make_trainer(options, grid=ProcessGrid(communicator, *shape), dtype=torch.float64)
        trainer.run(ignore)
        return weights_of(trainer)

    expected = train(None, (1, 1))
    for found in sb.SimulatedWorld(grid[0] * grid[1]).run(lambda communicator: train(communicator, grid)):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_ranks_that_round_differently_are_brought_together_after_each_epoch() -> None:
    def train(communicator: Communicator) -> Tensor:
        trainer = make_trainer(TrainingOptions(epochs=1, batch_size=11), grid=ProcessGrid(communicator))
        trainer.model.gru.dropout = 0.0
        with torch.no_grad():
            trainer.model.head.bias += 1e-6 * communicator.rank
        trainer.run(ignore)
        return weights_of(trainer)

    first, *others = sb.SimulatedWorld(3).run(train)
    assert all(torch.equal(first, other) for other in others)
