"""With `ema_decay`, what is measured and written is the moving average of the weights, on any ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from train.test_resume import UPDATES, stopped, without_times
from train.training_cases import ignore, make_trainer, weights_of

from seqbraid.cli.main import main
from seqbraid.comm import Communicator, ProcessGrid, SimulatedWorld
from seqbraid.errors import OptionsError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.train import RunFolder, Trainer, TrainingOptions, evaluate

DECAY = 0.8


def options_of(decay: float | None = DECAY, **rest: Any) -> TrainingOptions:
    return TrainingOptions(
        **{"epochs": 3, "batch_size": 10, "learning_rate": 0.02, "seed": 4, "ema_decay": decay, **rest}
    )


def trajectory(options: TrainingOptions) -> list[Tensor]:
    """Return the weights at the start and after each update of a training."""
    trainer = make_trainer(options)
    found = [weights_of(trainer)]
    update = trainer._update

    def recorded(batch: Any) -> Any:
        result = update(batch)
        found.append(weights_of(trainer))
        return result

    trainer._update = recorded  # type: ignore[method-assign]
    trainer.run(ignore)
    return found


def averages(weights: list[Tensor]) -> list[Tensor]:
    """Return the average after each of the weights, reckoned in float64."""
    found = [weights[0].double()]
    for each in weights[1:]:
        found.append(DECAY * found[-1] + (1 - DECAY) * each.double())
    return found


def checkpoint_of(folder: Path) -> dict[str, Any]:
    newest = max((folder / "checkpoints").iterdir())
    content: dict[str, Any] = torch.load(newest, weights_only=True)
    return content


def vector(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in state.values()])


def test_epochs_are_measured_with_the_average_of_all_weights_and_the_training_is_the_same(
    tmp_path: Path,
) -> None:
    weights = trajectory(options_of(None))
    expected = averages(weights)
    trainer = make_trainer(options_of(), folder=tmp_path)
    seen = []
    trainer.run(lambda metrics, test: seen.append((metrics, weights_of(trainer))))
    assert len(seen) == 3
    for epoch, (_, found) in enumerate(seen, start=1):
        torch.testing.assert_close(found.double(), expected[epoch * UPDATES], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(found, weights[epoch * UPDATES], rtol=1e-3)
    # It stays in the model at the end, and the weights themselves went another way all the time.
    assert torch.equal(weights_of(trainer), seen[-1][1])
    content = checkpoint_of(tmp_path)
    assert torch.equal(vector(content["model"]), weights[-1])
    assert torch.equal(vector(content["average"]), seen[-1][1])


def test_losses_are_those_of_the_average() -> None:
    trainer = make_trainer(options_of(epochs=1))
    trainer.run(ignore)
    other = make_trainer(options_of(None, epochs=1))
    torch.nn.utils.vector_to_parameters(weights_of(trainer), other.model.parameters())
    found = evaluate(other.model, other._batches_of(other._data.test))
    assert trainer.history[0]["test_loss"] == found.loss


@pytest.mark.parametrize("solver", [Serial(), MGRIT(coarsening=2)], ids=["serial", "mgrit"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_training_ends_as_an_undisturbed_one(
    optimizer: str, solver: Serial | MGRIT, tmp_path: Path
) -> None:
    options = options_of(optimizer=optimizer)
    whole = make_trainer(options, solver, validation=True)
    whole.run(ignore)
    for updates in (1, UPDATES, UPDATES + 1, 3 * UPDATES):
        folder = tmp_path / str(updates)
        folder.mkdir()
        stopped(options, folder, updates, solver=solver, validation=True)
        again = make_trainer(options, solver, folder=folder, validation=True)
        assert again.restore()
        again.run(ignore)
        assert torch.equal(weights_of(again), weights_of(whole)), updates
        assert without_times(again.history) == without_times(whole.history)


def test_a_finished_training_that_is_gone_on_with_has_the_average_too(tmp_path: Path) -> None:
    first = make_trainer(options_of(), folder=tmp_path)
    first.run(ignore)
    again = make_trainer(options_of(), folder=tmp_path)
    again.restore()
    again.run(ignore)
    assert torch.equal(weights_of(again), weights_of(first))
    longer = make_trainer(options_of(epochs=4), folder=tmp_path)
    longer.restore()
    longer.run(ignore)
    whole = make_trainer(options_of(epochs=4))
    whole.run(ignore)
    assert torch.equal(weights_of(longer), weights_of(whole))


def test_the_same_trainer_goes_on_from_its_weights_not_from_their_average() -> None:
    trainer = make_trainer(options_of())
    trainer.run(ignore)
    shown = weights_of(trainer)
    trainer.run(ignore)
    assert torch.equal(weights_of(trainer), shown)


def test_a_checkpoint_without_an_average_begins_one_at_its_weights(tmp_path: Path) -> None:
    make_trainer(options_of(None, epochs=2), folder=tmp_path).run(ignore)
    assert "average" not in checkpoint_of(tmp_path)
    weights = trajectory(options_of(None))[2 * UPDATES :]
    again = make_trainer(options_of(), folder=tmp_path)
    assert again.restore()
    again.run(ignore)
    torch.testing.assert_close(weights_of(again).double(), averages(weights)[-1], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_with_an_average_serves_a_training_without(tmp_path: Path) -> None:
    make_trainer(options_of(epochs=2), folder=tmp_path).run(ignore)
    again = make_trainer(options_of(None), folder=tmp_path)
    assert again.restore()
    again.run(ignore)
    assert torch.equal(weights_of(again), trajectory(options_of(None))[-1])


def test_a_training_that_is_sent_back_takes_the_average_back_too(tmp_path: Path) -> None:
    trainer = make_trainer(options_of(on_nonfinite="rollback"), MGRIT(coarsening=2), folder=tmp_path)
    spoilt: list[Trainer] = []
    update = trainer._update

    def spoil(batch: Any) -> Any:
        if trainer.updates == UPDATES + 1 and not spoilt:
            spoilt.append(trainer)
            with torch.no_grad():
                trainer.model.head.bias.fill_(torch.nan)
        return update(batch)

    trainer._update = spoil  # type: ignore[method-assign]
    with pytest.warns(RuntimeWarning, match="on with the serial solver"):
        trainer.run(ignore)
    assert [entry["solver"] for entry in trainer.history] == ["mgrit", "serial", "serial"]
    assert torch.isfinite(weights_of(trainer)).all()
    content = checkpoint_of(tmp_path)
    assert not torch.equal(vector(content["average"]), vector(content["model"]))


@pytest.mark.parametrize(("ranks", "groups"), [(2, 1), (2, 2), (4, 2)])
def test_every_rank_keeps_the_same_average(ranks: int, groups: int) -> None:
    exact = MGRIT(coarsening=2, tolerance=1e-13)

    def train(grid: ProcessGrid) -> tuple[Tensor, float]:
        options = options_of(epochs=2, optimizer="sgd")
        trainer = make_trainer(options, exact, grid=grid, dtype=torch.float64)
        # Its seeds come from torch's generator, which simulated ranks share; the head's dropout stays.
        trainer.model.gru.dropout = 0.0
        trainer.run(ignore)
        return weights_of(trainer), trainer.history[-1]["test_loss"]

    def on_rank(communicator: Communicator) -> tuple[Tensor, float]:
        return train(ProcessGrid(communicator, data=groups))

    expected, expected_loss = train(ProcessGrid())
    results = SimulatedWorld(ranks).run(on_rank)
    for weights, loss in results:
        assert torch.equal(weights, results[0][0])
        torch.testing.assert_close(weights, expected, rtol=1e-7, atol=1e-8)
        assert loss == pytest.approx(expected_loss, rel=1e-7)


def test_lbfgs_has_no_noise_to_average_away() -> None:
    with pytest.raises(OptionsError, match="leave `ema_decay` out, or take another optimizer"):
        options_of(optimizer="lbfgs")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(12) % 3
    x = random.normal(size=(12, 6, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=labels, x_test=x[:6], y_test=labels[:6])
    return tmp_path / "data.npz"


def test_the_command_writes_the_average_measures_it_and_goes_on_with_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*words: object) -> int:
        return main(["train", *map(str, words)])

    def written(name: str, which: Any = "last") -> Tensor:
        return vector(RunFolder(tmp_path / name).load_weights(which)["model"])

    shared = ("--hidden-size", 4, "--batch-size", 5, "--lr", 0.1, "--ema-decay", DECAY)
    assert train(data, "--output", tmp_path / "whole", "--epochs", 3, *shared) == 0
    content = checkpoint_of(tmp_path / "whole")
    assert torch.equal(written("whole"), vector(content["average"]))
    assert not torch.allclose(written("whole"), vector(content["model"]))
    last = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "whole"), str(data)]) == 0
    assert f"loss {last['test_loss']:.4f}" in capsys.readouterr().out

    assert train(data, "--output", tmp_path / "run", "--epochs", 1, *shared) == 0
    assert train("--output", tmp_path / "run", "--resume", "--epochs", 3) == 0
    assert torch.equal(written("run"), written("whole"))
    assert torch.equal(written("run", "best"), written("whole", "best"))
    capsys.readouterr()
    assert train("--output", tmp_path / "run", "--resume", "--ema-decay", 0.5) == 2
    assert f"begun with --ema-decay {DECAY}, which it cannot change to 0.5" in capsys.readouterr().err
    assert train(data, "--output", tmp_path / "x", "--ema-decay", 0.9, "--optimizer", "lbfgs") == 2
    assert "leave --ema-decay out, or take another optimizer" in capsys.readouterr().err


def test_a_run_of_before_there_was_an_average_goes_on_without_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(data), "--output", str(run), "--epochs", "1", "--hidden-size", "4"]) == 0
    # As an older version left it, which knew nothing of averages.
    options = json.loads((run / "options.json").read_text())
    del options["arguments"]["ema_decay"], options["training"]["ema_decay"]
    (run / "options.json").write_text(json.dumps(options))
    config = (run / "config.toml").read_text().splitlines(keepends=True)
    (run / "config.toml").write_text("".join(line for line in config if "ema-decay" not in line))
    assert main(["train", "--output", str(run), "--resume", "--epochs", "2"]) == 0
    capsys.readouterr()
    assert main(["train", "--output", str(run), "--resume", "--ema-decay", "0.9"]) == 2
    assert "begun with --ema-decay None, which it cannot change to 0.9" in capsys.readouterr().err
