"""Training on 3 ranks of which one meets a fault, and training that is told to stop.

`scripts/break_ranks.py` breaks every rank in more ways, and `scripts/kill_training.py` compares the weights
of trainings that were killed and went on.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from script_modules import load_script

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

NEVER_S = 100_000.0
TRAIN = ["--hidden-size", "4", "--batch-size", "4", "--solver", "mgrit", "--coarsening", "2"]


@pytest.fixture(scope="module")
def watched_job() -> ModuleType:
    return load_script("watched_job")


@pytest.fixture(scope="module")
def break_ranks(watched_job: ModuleType) -> ModuleType:
    return load_script("break_ranks")


@pytest.fixture
def data(break_ranks: ModuleType, tmp_path: Path) -> Path:
    break_ranks.write_data(tmp_path)
    return tmp_path / "data.npz"


@pytest.mark.parametrize(
    ("fault", "rank", "launcher", "said"),
    [
        ("error in forward", 2, "launch", "RuntimeError: an injected error"),
        ("error while writing", 0, "mpiexec", "RuntimeError: an injected error"),
        ("kill", 2, "mpiexec", "signal 9 (SIGKILL)"),
        ("kill while others compute", 1, "launch", "signal 9 (SIGKILL)"),
        ("segfault in backward", 1, "mpiexec", "signal 11 (SIGSEGV)"),
        ("torch out of memory", 2, "mpiexec", "out of memory"),
    ],
)
def test_a_fault_on_one_rank_ends_the_job(
    fault: str, rank: int, launcher: str, said: str, data: Path, break_ranks: ModuleType
) -> None:
    outcome = break_ranks.break_job(fault, rank, launcher, data.parent, within=NEVER_S)
    assert outcome.problem == ""
    assert said in outcome.first_line


def started(watched_job: ModuleType, data: Path, *words: str, **variables: str):  # type: ignore[no-untyped-def]
    program = [sys.executable, str(watched_job.ROOT / "tests/faults/program_with_fault.py")]
    command = [*program, "launch", "-n", "3", "--threads", "1", "--", "train", str(data), *TRAIN, *words]
    return watched_job.WatchedJob((), 3, data.parent, command, **variables)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_told_to_stop_saves_its_state_and_ends_well(
    number: signal.Signals, data: Path, watched_job: ModuleType
) -> None:
    run = data.parent / "run"
    words = ["--output", str(run), "--epochs", "100000"]
    job = started(watched_job, data, *words, SEQBRAID_TEST_FAULT="error:end:99:1")
    while job.running() and not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    job.signal(number)
    assert job.wait(60) == 0, job.errors
    assert f"stopped by {number.name} in epoch" in job.output
    assert (run / "stopped").read_text().strip() == number.name
    assert list((run / "checkpoints").glob("update-*.pt"))
    assert job.left_over(5) == []


def test_a_full_disk_is_said_once_and_ends_the_job(data: Path, watched_job: ModuleType) -> None:
    words = ["--output", str(data.parent / "run"), "--epochs", "2"]
    job = started(watched_job, data, *words, SEQBRAID_TEST_FAULT="full:write:0:1")
    assert job.wait(60) == 1
    complaints = [line for line in job.errors.splitlines() if "error:" in line]
    assert len(complaints) == 1
    assert "No space left on device; make room there" in complaints[0]
    assert "Traceback" not in job.errors
    assert job.left_over(5) == []


def test_a_run_folder_that_cannot_be_written_is_an_early_error(data: Path, watched_job: ModuleType) -> None:
    words = ["--output", "/proc/no/run"]
    job = started(watched_job, data, *words, SEQBRAID_TEST_FAULT="error:forward:all:1")
    assert job.wait(60) != 0
    complaints = [line for line in job.errors.splitlines() if "error:" in line]
    assert len(complaints) == 1
    assert "/proc/no" in complaints[0]


def test_a_loss_that_is_not_finite_goes_back_on_every_rank(data: Path, watched_job: ModuleType) -> None:
    run = data.parent / "run"
    words = ["--output", str(run), "--epochs", "2", "--on-nonfinite", "rollback"]
    job = started(watched_job, data, *words, SEQBRAID_TEST_FAULT="nan:weights:all:2")
    assert job.wait(60) == 0, job.errors
    assert job.errors.count("warning: the loss") == 1
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]


@pytest.mark.parametrize("handling", ["raise", "serial"])
def test_a_solve_that_diverges_is_handled_as_asked_on_every_rank(
    handling: str, break_ranks: ModuleType, watched_job: ModuleType, tmp_path: Path
) -> None:
    break_ranks.write_data(tmp_path, steps=512)
    run = tmp_path / "run"
    words = ["--output", str(run), "--epochs", "1", "--on-divergence", handling, "--coarsening", "8"]
    # This step is too long for long memory.
    words += ["--coarse", "classic", "--coarse-step", "unit", "--forward-iterations", "4"]
    job = started(watched_job, tmp_path / "data.npz", *words, SEQBRAID_TEST_FAULT="remember:weights:all:1")
    if handling == "raise":
        assert job.wait(60) == 3
        assert job.errors.count("error:") == 1
        assert "--on-divergence serial" in job.errors
    else:
        assert job.wait(60) == 0, job.errors
        (line,) = (run / "metrics.jsonl").read_text().splitlines()
        assert json.loads(line)["diverged_solves"] > 0
    assert job.left_over(5) == []
