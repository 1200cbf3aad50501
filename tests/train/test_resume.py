"""A training that was stopped anywhere and gone on with ends as an undisturbed one, bit for bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train.training_cases import COUNT, ignore, make_trainer, weights_of

from seqbraid.errors import DataError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import Interruption, NonFiniteError, Trainer, TrainingOptions

BATCH = 10
UPDATES = -(-COUNT // BATCH)  # of an epoch

KINDS: dict[str, dict[str, Any]] = {
    "adam": {"clip_norm": 0.5, "schedule": "cosine", "warmup_epochs": 1.0},
    "adamw": {"weight_decay": 0.1, "label_smoothing": 0.1},
    "sgd": {"schedule": "step", "step_epochs": 1, "class_weights": "balanced"},
    "lbfgs": {"nested_levels": 1},
}
VARYING = ("train_seconds", "test_seconds", "seconds")


def options_of(optimizer: str) -> TrainingOptions:
    return TrainingOptions(
        epochs=3, batch_size=BATCH, learning_rate=0.02, seed=4, optimizer=optimizer, **KINDS[optimizer]
    )


class StopAfter(Interruption):
    """As if a signal came during update number `updates`."""

    def __init__(self, trainer_of: list[Trainer], updates: int) -> None:
        super().__init__()
        self._trainer_of, self._updates = trainer_of, updates

    @property
    def received(self) -> str | None:
        return "SIGTERM" if self._trainer_of[0].updates == self._updates - 1 else None

    @received.setter
    def received(self, value: str | None) -> None:
        pass


def stopped(options: TrainingOptions, folder: Path, updates: int, **rest: Any) -> Trainer:
    """Return a trainer that was stopped after so many updates."""
    box: list[Trainer] = []
    interruption = StopAfter(box, updates)
    box.append(make_trainer(options, folder=folder, interruption=interruption, **rest))
    assert box[0].run(ignore) == "SIGTERM"
    assert box[0].updates == updates
    return box[0]


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name not in VARYING} for entry in history]


@pytest.mark.parametrize("solver", [Serial(), MGRIT(coarsening=2)], ids=["serial", "mgrit"])
@pytest.mark.parametrize("optimizer", KINDS)
def test_a_resumed_training_ends_as_an_undisturbed_one(
    optimizer: str, solver: Serial | MGRIT, tmp_path: Path
) -> None:
    options = options_of(optimizer)
    whole = make_trainer(options, solver, validation=True)
    assert whole.run(ignore) is None
    # In an epoch's beginning, middle and last update, and in the last epoch.
    for updates in (1, UPDATES - 1, UPDATES, UPDATES + 1, 3 * UPDATES):
        folder = tmp_path / str(updates)
        folder.mkdir()
        stopped(options, folder, updates, solver=solver, validation=True)
        torch.rand(5)
        again = make_trainer(options, solver, folder=folder, validation=True)
        assert again.restore()
        assert again.updates == updates
        assert again.run(ignore) is None
        assert torch.equal(weights_of(again), weights_of(whole)), updates
        assert without_times(again.history) == without_times(whole.history)


def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    options = options_of("adam")
    whole = make_trainer(options)
    whole.run(ignore)

    class Killed(BaseException):
        pass

    def kill(metrics: dict[str, Any], test: object) -> None:
        if metrics["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        make_trainer(options, folder=tmp_path).run(kill)
    again = make_trainer(options, folder=tmp_path)
    assert again.restore()
    assert again.updates == UPDATES  # the second epoch is done once more
    again.run(ignore)
    assert torch.equal(weights_of(again), weights_of(whole))


def test_a_finished_training_has_nothing_to_go_on_with_but_more_epochs(tmp_path: Path) -> None:
    first = make_trainer(TrainingOptions(epochs=2, batch_size=BATCH), folder=tmp_path)
    first.run(ignore)
    again = make_trainer(TrainingOptions(epochs=2, batch_size=BATCH), folder=tmp_path)
    again.restore()
    calls: list[object] = []
    again.run(lambda *results: calls.append(results))
    assert not calls
    assert torch.equal(weights_of(first), weights_of(again))
    longer = make_trainer(TrainingOptions(epochs=3, batch_size=BATCH), folder=tmp_path)
    longer.restore()
    longer.run(ignore)
    whole = make_trainer(TrainingOptions(epochs=3, batch_size=BATCH))
    whole.run(ignore)
    assert torch.equal(weights_of(longer), weights_of(whole))


@pytest.mark.parametrize(("optimizer", "name"), [("adamw", "weight_decay"), ("sgd", "momentum")])
def test_what_a_resumed_training_changes_of_its_optimizer_counts(
    optimizer: Any, name: str, tmp_path: Path
) -> None:
    options = TrainingOptions(epochs=2, batch_size=BATCH, learning_rate=0.02, optimizer=optimizer)
    whole = make_trainer(options)

    def change(metrics: dict[str, Any], test: object) -> None:
        whole._optimizer.param_groups[0][name] = 0.3

    whole.run(change)
    make_trainer(replace(options, epochs=1), folder=tmp_path).run(ignore)
    again = make_trainer(replace(options, **{name: 0.3}), folder=tmp_path)
    assert again.restore()
    again.run(ignore)
    assert torch.equal(weights_of(again), weights_of(whole))


def test_a_damaged_checkpoint_is_told_of_and_costs_time_alone(tmp_path: Path) -> None:
    options = options_of("adam")
    whole = make_trainer(options)
    whole.run(ignore)
    stopped(options, tmp_path, UPDATES + 1)
    newest = max((tmp_path / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    again = make_trainer(options, folder=tmp_path)
    with pytest.warns(RuntimeWarning, match=rf"{newest.name} is damaged"):
        assert again.restore()
    assert again.updates == UPDATES
    again.run(ignore)
    assert torch.equal(weights_of(again), weights_of(whole))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_checkpoint_of_another_model_or_optimizer_is_refused(optimizer: str, tmp_path: Path) -> None:
    stopped(options_of("adam"), tmp_path, 1)
    other = make_trainer(options_of(optimizer), folder=tmp_path)
    if optimizer == "adam":
        other.model.head = torch.nn.Linear(5, 7)
    with pytest.raises(DataError, match="does not belong to this model and its options"):
        other.restore()


def test_a_checkpoint_is_written_after_every_update_where_no_minute_may_be_lost(tmp_path: Path) -> None:
    seen: list[int] = []
    trainer = make_trainer(options_of("sgd"), folder=tmp_path, minutes=0.0)
    checkpoints = trainer._checkpoints
    assert checkpoints is not None
    save = checkpoints.save
    checkpoints.save = lambda updates, content: (seen.append(updates), save(updates, content))[1]  # type: ignore[method-assign]
    trainer.run(ignore)
    assert sorted(set(seen)) == list(range(3 * UPDATES + 1))


def test_signals_are_noted_and_the_first_one_counts() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with Interruption() as interruption:
        assert interruption.received is None
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.received == "SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_loss_that_is_not_finite_goes_back_to_the_last_checkpoint_and_the_serial_solver(
    tmp_path: Path,
) -> None:
    options = TrainingOptions(epochs=3, batch_size=BATCH, on_nonfinite="rollback")
    trainer = make_trainer(options, MGRIT(coarsening=2), folder=tmp_path)

    def spoil(metrics: dict[str, Any], test: object) -> None:
        if metrics["epoch"] == 2 and metrics["solver"] == "mgrit":
            with torch.no_grad():
                trainer.model.head.bias.fill_(torch.nan)

    with pytest.warns(RuntimeWarning, match=r"nan .*; back at update 3, in epoch 2, and on with the serial"):
        assert trainer.run(spoil) is None
    assert [entry["solver"] for entry in trainer.history] == ["mgrit", "serial", "serial"]
    assert torch.isfinite(weights_of(trainer)).all()


def test_a_resumed_training_takes_another_solver_unless_it_was_sent_back(tmp_path: Path) -> None:
    parallel = MGRIT(coarsening=2)
    options = TrainingOptions(epochs=1, batch_size=BATCH, on_nonfinite="rollback")
    make_trainer(options, Serial(), folder=tmp_path).run(ignore)
    solvers = []
    for epochs in (2, 3, 4):
        trainer = make_trainer(replace(options, epochs=epochs), parallel, folder=tmp_path)
        assert trainer.restore()
        assert trainer.sent_back == (epochs == 4)
        if epochs == 3:
            with pytest.warns(RuntimeWarning, match="on with the serial solver"):
                trainer._go_back(NonFiniteError("nan"))
        trainer.run(ignore)
        solvers = [entry["solver"] for entry in trainer.history]
    assert solvers == ["serial", "mgrit", "serial", "serial"]


@pytest.mark.parametrize("solver", [Serial(), MGRIT(coarsening=2)], ids=["serial", "mgrit"])
def test_where_the_serial_solver_cannot_help_the_training_stops(
    solver: Serial | MGRIT, tmp_path: Path
) -> None:
    rollback = "stop" if isinstance(solver, MGRIT) else "rollback"
    options = TrainingOptions(epochs=2, batch_size=BATCH, on_nonfinite=rollback)
    trainer = make_trainer(options, solver, folder=tmp_path)

    def spoil(metrics: dict[str, Any], test: object) -> None:
        with torch.no_grad():
            trainer.model.head.bias.fill_(torch.inf)

    with pytest.raises(NonFiniteError, match=r"head\.bias holds nan or inf"):
        trainer.run(spoil)


@pytest.mark.parametrize("batch", [BATCH, COUNT], ids=["within an epoch", "at its end"])
def test_weights_that_are_not_finite_are_neither_measured_nor_solved_with(batch: int, tmp_path: Path) -> None:
    options = TrainingOptions(
        epochs=2,
        batch_size=batch,
        learning_rate=1e25,
        weight_decay=1e25,
        optimizer="sgd",
        on_nonfinite="rollback",
    )
    trainer = make_trainer(options, MGRIT(coarsening=2), folder=tmp_path)
    measured: list[object] = []
    with (
        pytest.raises(NonFiniteError, match=r"weight_ih_l0 holds nan or inf after update 1;"),
        pytest.warns(RuntimeWarning, match=r"weight_ih_l0 holds .*; back at update 0, in epoch 1"),
    ):
        trainer.run(lambda *results: measured.append(results))
    assert not measured
