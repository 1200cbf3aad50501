"""`seqbraid train --resume` and --config, as a person uses them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from launching import ROOT
from shared_ranks import RunMain

from seqbraid.cli.main import main
from seqbraid.comm import Communicator, ProcessGrid, SimulatedWorld
from seqbraid.options.commands import OF_A_TRAINING
from seqbraid.train import RunFolder
from seqbraid.train.starting import begin

Write = Callable[..., Path]
SMALL = ["--hidden-size", "4", "--batch-size", "5", "--seed", "2"]
MGRIT = ["--solver", "mgrit", "--coarsening", "2"]


def weights(run: Path, name: str = "last.pt") -> torch.Tensor:
    model = torch.load(run / name, weights_only=True)["model"]
    return torch.cat([value.flatten() for value in model.values()])


def train(*words: object) -> int:
    return main(["train", *map(str, words)])


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert train(*words) == 2
    return capsys.readouterr().err


@pytest.fixture
def whole(write_arrays: Write, tmp_path: Path) -> tuple[Path, Path]:
    """Return data and an undisturbed run of four epochs."""
    data = write_arrays()
    assert train(data, "--output", tmp_path / "whole", "--epochs", 4, *SMALL) == 0
    return data, tmp_path / "whole"


def test_a_run_goes_on_with_the_options_that_it_was_begun_with(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, expected = whole
    run = tmp_path / "run"
    assert train(data, "--output", run, "--epochs", 2, *SMALL) == 0
    capsys.readouterr()
    assert train("--output", run, "--resume", "--epochs", 4) == 0
    said = capsys.readouterr().out
    assert "changed: --epochs 4 (was 2)" in said
    assert f"{run}: goes on in epoch 3, after 6 updates" in said
    assert torch.equal(weights(run), weights(expected))
    assert torch.equal(weights(run, "best.pt"), weights(expected, "best.pt"))
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4
    assert json.loads((run / "options.json").read_text())["training"]["epochs"] == 4
    # The whole line again, and nothing left to do.
    assert train(data, "--output", run, "--resume", "--epochs", 4, *SMALL) == 0
    assert "is finished; to train on, raise --epochs (now 4)" in capsys.readouterr().out


def test_a_run_whose_folder_a_file_names_goes_on_with_the_options_that_it_was_begun_with(
    write_arrays: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "run.toml"
    file.write_text(f"data = '{write_arrays()}'\noutput = '{run}'\nhidden-size = 4\n")
    assert train("--config", file, "--epochs", 1, "--lr", 0.1) == 0
    assert train("--config", file, "--resume", "--epochs", 2) == 0
    assert "changed: --epochs 2 (was 1)" in capsys.readouterr().out
    assert json.loads((run / "options.json").read_text())["training"]["learning_rate"] == 0.1


def test_options_beside_one_that_is_changed_fall_away(write_arrays: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    of_rate = ["--schedule", "step", "--step-epochs", 1, "--lr-scaling", "linear", "--reference-batch", 5]
    assert train(write_arrays(), "--output", run, "--epochs", 1, *SMALL, *of_rate) == 0
    changed = ["--epochs", 2, "--schedule", "constant", "--lr-scaling", "none"]
    assert train("--output", run, "--resume", *changed, "--step-epochs", 2) == 2
    assert train("--output", run, "--resume", *changed) == 0
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[1])["learning_rate"] == 1e-3


def test_a_run_that_its_patience_ended_says_what_lets_it_go_on(
    write_arrays: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    wild = ["--lr", 1, "--patience", 1]  # at which the loss soon grows
    assert train(write_arrays(), "--output", run, "--epochs", 50, *SMALL, *wild) == 0
    assert "ended by --patience" in capsys.readouterr().out
    assert train("--output", run, "--resume") == 0
    assert "is finished; to train on, raise --patience (now 1)" in capsys.readouterr().out
    assert train("--output", run, "--resume", "--patience", 2) == 0
    assert "is finished" not in capsys.readouterr().out


@pytest.mark.parametrize("batch", [13, 1000])
def test_a_rate_is_not_scaled_to_batches_that_there_are_not(
    batch: int, write_arrays: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaled = ["--batch-size", batch, "--lr-scaling", "linear"]
    said = refusal(capsys, write_arrays(), "--output", tmp_path / "run", *scaled)
    assert f"--batch-size {batch} is more than the 12 training sequences" in said
    assert not (tmp_path / "run").exists()


def test_what_a_run_was_begun_with_is_read_by_all_ranks_before_it_is_overwritten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    needed: dict[str, Any] = {"features": {}, "class_names": [], "model": {}, "solver": {}, "training": {}}
    folder.create({**needed, "arguments": {"lr": 1.0}}, overwrite=False)

    def read_and_begin(communicator: Communicator) -> float:
        if communicator.rank == 1:
            time.sleep(0.2)
        read: float = folder.options()["arguments"]["lr"]
        setup: Any = SimpleNamespace(
            grid=ProcessGrid(communicator),
            arguments=dict.fromkeys((each.dest for each in OF_A_TRAINING), None) | {"lr": 2.0},
            record=lambda: {**needed, "arguments": {"lr": 2.0}},
        )
        begin(setup, folder, resumed=True, overwrite=False)
        return read

    assert SimulatedWorld(2).run(read_and_begin) == [1.0, 1.0]
    assert folder.options()["arguments"] == {"lr": 2.0}


def test_with_resume_a_run_that_is_not_there_begins(whole: tuple[Path, Path], tmp_path: Path) -> None:
    data, expected = whole
    assert train(data, "--output", tmp_path / "run", "--resume", "--epochs", 4, *SMALL) == 0
    assert torch.equal(weights(tmp_path / "run"), weights(expected))


def test_a_run_refuses_what_would_make_it_another(
    whole: tuple[Path, Path], write_arrays: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = whole
    resume = ("--output", run, "--resume")
    assert "begun with --seed 2, which it cannot change to 3" in refusal(capsys, *resume, "--seed", 3)
    assert "begun with --cell classic" in refusal(capsys, *resume, "--cell", "implicit")
    assert "give one of them" in refusal(capsys, *resume, "--overwrite")
    longer = write_arrays("longer.npz", y_test=[0, 1, 2], x_test=torch.zeros(3, 6, 2).numpy())
    assert "begun on {'train': 12, 'test': 6} sequences" in refusal(capsys, longer, *resume)
    assert "say --resume to go on with it, or --overwrite" in refusal(capsys, "--output", run, *_data(run))
    assert "DATA, --output must be given" in refusal(capsys, "--resume")


def _data(run: Path) -> list[str]:
    return [json.loads((run / "options.json").read_text())["data"]]


def test_the_classic_cell_is_refused_steps_at_which_it_amplifies(
    write_arrays: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (write_arrays(), "--output", tmp_path / "run", "--nested-levels", 2)
    assert "makes the cell's step 4, and above 2 the classic cell amplifies" in refusal(capsys, *words)
    assert train(*words, "--cell", "implicit", "--epochs", 3, *SMALL) == 0


def test_the_resolved_configuration_repeats_the_run(whole: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = whole
    again = tmp_path / "again"
    assert train("--config", run / "config.toml", "--output", again) == 0
    assert torch.equal(weights(again), weights(run))
    text = (run / "config.toml").read_text()
    for line in ("epochs = 4", "hidden-size = 4", "lr = 0.001", 'optimizer = "adam"', "threads = 1"):
        assert line in text.splitlines()


def test_a_torn_checkpoint_is_said_aloud(
    whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = whole
    expected = weights(run)
    newest = max((run / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:1000])
    capsys.readouterr()
    assert train("--output", run, "--resume") == 0
    captured = capsys.readouterr()
    assert f"{newest.name} is damaged" in captured.err
    assert "goes on in epoch 4, after 9 updates" in captured.out
    assert torch.equal(weights(run), expected)


def test_tensorboard_reads_what_was_written(write_arrays: Write, tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    assert train(write_arrays(), "--output", run, "--epochs", 2, *SMALL, "--tensorboard") == 0
    assert train("--output", run, "--resume", "--epochs", 3) == 0
    events = reading.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    written = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for tag, name in (("train/loss", "train_loss"), ("test/accuracy", "test_accuracy")):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(entry["epoch"], pytest.approx(entry[name])) for entry in written]


def started(*words: object) -> subprocess.Popen[str]:
    """Start `seqbraid train` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "seqbraid.cli.main", "train", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_a_checkpoint_and_ends_cleanly(name: str, write_arrays: Write, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # So many epochs that it cannot end by itself.
    with started(write_arrays(), "--output", run, "--epochs", 100_000, *SMALL) as process:
        while process.poll() is None and not (run / "metrics.jsonl").exists():
            time.sleep(0.01)
        process.send_signal(getattr(signal, name))
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert f"stopped by {name} in epoch" in output
    assert "seqbraid train --output" in output
    assert "--resume goes on" in output
    assert (run / "stopped").read_text().strip() == name
    done = len((run / "metrics.jsonl").read_text().splitlines())
    assert train("--output", run, "--resume", "--epochs", done + 1) == 0
    assert not (run / "stopped").exists()
    # As undisturbed, although it was stopped within an epoch.
    assert train(*_data(run), "--output", tmp_path / "whole", "--epochs", done + 1, *SMALL) == 0
    assert torch.equal(weights(run), weights(tmp_path / "whole"))


def test_ranks_go_on_bit_for_bit_and_other_numbers_of_them_to_the_solvers_accuracy(
    write_arrays: Write, tmp_path: Path, run_main: RunMain
) -> None:
    data = str(write_arrays())

    def ranks(count: int, *words: object) -> Any:
        done = run_main(count, "train", *map(str, words))
        assert done.returncode == 0, done.stderr
        return done

    exact = [*SMALL, "--solver", "mgrit", "--coarsening", "1", "--tolerance", "1e-7", "--dropout", "0.1"]
    layers = [*exact, "--num-layers", "2"]
    ranks(3, data, "--output", tmp_path / "whole", "--epochs", 3, *layers)
    ranks(3, data, "--output", tmp_path / "begun", "--epochs", 1, *layers)
    for count in (3, 2):
        run = tmp_path / str(count)
        shutil.copytree(tmp_path / "begun", run)
        grid = ["--data-ranks", 2] if count == 2 else []
        done = ranks(count, "--output", run, "--resume", "--epochs", 3, *grid)
        assert "goes on in epoch 2, after 3 updates" in done.stdout
        expected, found = weights(tmp_path / "whole"), weights(run)
        if count == 3:
            assert torch.equal(found, expected)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_cannot_go_on_is_said_before_anything_is_written(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    before = (run / "options.json").read_bytes()
    assert train("--output", run, "--resume", "--epochs", 3) == 2
    assert "has 4 epochs done, more than --epochs 3" in capsys.readouterr().err
    assert (run / "options.json").read_bytes() == before
    assert train("--output", tmp_path / "nothing", "--resume") == 2
    assert "nothing holds no run to --resume; give DATA too" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_ranks_that_a_run_goes_on_without_are_named(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    options = json.loads((run / "options.json").read_text())
    (run / "options.json").write_text(json.dumps({**options, "ranks": 4}))
    assert train("--output", run, "--resume", "--epochs", 5) == 0
    assert "changed: ranks: 1 (was 4); the run ends as" in capsys.readouterr().out


def test_a_class_without_a_sequence_to_train_on_is_named(
    write_arrays: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_arrays(y_train=1 + np.arange(12) % 3, y_test=1 + np.arange(6) % 3)
    assert train(data, "--output", tmp_path / "run", "--epochs", 1, *SMALL) == 0
    assert "warning: no sequence to train on is of class 0" in capsys.readouterr().err
