"""The process that watches a rank, without a launcher: the environment says that this is rank 1 of 3."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from launching import ROOT

from seqbraid.launching.memory_kills import memory_kills
from seqbraid.launching.watch import CARRIED, _describe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ranks are watched on Linux alone")

FOREIGN = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL", "SLURM_", "SEQBRAID_")
RANK_1_OF_3 = {"PMI_RANK": "1", "PMI_SIZE": "3"}

# Says that it is there, and what comes.
LISTENER = """
import os, signal, time
def say(number, frame):
    print(signal.Signals(number).name, flush=True)
for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP"):
    signal.signal(getattr(signal, name), say)
print(os.getpid(), flush=True)
while True:
    time.sleep(1)
"""


def words_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "seqbraid.launching.rank", *arguments]


def environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**own, "PYTHONPATH": str(ROOT), **RANK_1_OF_3}


def run_watched(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words_of("--", *command), capture_output=True, text=True, env=environment(), check=False, timeout=60
    )


def hear_interrupts() -> None:
    """Undo that a shell without job control lets what runs in its background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def listening(words: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start what runs LISTENER; give the process, and the number of the listener."""
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=hear_interrupts,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def gone(pid: int) -> bool:
    """Return whether a process ends within a generous time."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_rank_that_a_signal_ends_is_named_and_the_watcher_ends_alike(name: str) -> None:
    done = run_watched("sh", "-c", f"kill -{name[3:]} $$")
    number = getattr(signal, name)
    assert done.returncode == -number
    assert done.stderr.startswith("rank 1: process ")
    assert f" was ended by signal {int(number)} ({name})" in done.stderr
    assert ("memory" in done.stderr) == (name == "SIGKILL")
    assert len(done.stderr.splitlines()) == 1


def test_an_exit_code_is_handed_on_without_a_word() -> None:
    done = run_watched("sh", "-c", "exit 7")
    assert (done.returncode, done.stderr) == (7, "")


def test_the_stack_of_a_crash_follows_the_rank(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import ctypes\ndef crash():\n    ctypes.string_at(0)\ncrash()\n")
    done = run_watched(sys.executable, "-m", "seqbraid.launching.script", str(tmp_path / "script.py"))
    lines = done.stderr.splitlines()
    assert done.returncode == -signal.SIGSEGV
    assert "ended by signal 11 (SIGSEGV)" in lines[0]
    assert lines[1] == "Fatal Python error: Segmentation fault"
    assert "line 3 in crash" in done.stderr


def test_each_signal_reaches_the_rank_once() -> None:
    with listening(words_of("--", sys.executable, "-c", LISTENER)) as (process, _):
        for name in ("SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT", "SIGUSR1"):
            process.send_signal(getattr(signal, name))
            assert next_line(process) == name


def test_signals_that_stand_for_others_reach_the_rank_as_those() -> None:
    with listening(words_of("--carried", "--", sys.executable, "-c", LISTENER)) as (process, _):
        for meant, carrier in CARRIED.items():
            process.send_signal(carrier)
            assert next_line(process) == meant.name


def test_a_rank_that_a_signal_ends_which_was_handed_on_ends_without_a_word() -> None:
    with listening(words_of("--", "sh", "-c", "echo $$; sleep 60")) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGTERM


def test_a_rank_does_not_outlive_the_process_that_watches_it() -> None:
    with listening(words_of("--", sys.executable, "-c", LISTENER)) as (process, rank):
        process.kill()
        assert gone(rank)


SUPERVISE = [sys.executable, "-m", "seqbraid.launching.supervise"]


@pytest.mark.parametrize("carried", [False, True])
def test_launch_asks_the_launcher_to_end_by_a_signal_that_it_hands_on(carried: bool) -> None:
    numbers = list(CARRIED.values()) if carried else list(CARRIED)
    listener = LISTENER.replace('"SIGTERM", "SIGINT"', ", ".join(repr(number.name) for number in numbers))
    words = [*SUPERVISE, *(["--carried"] if carried else []), "--", sys.executable, "-c", listener]
    for sent, come in (
        (signal.SIGTERM, numbers[0]),
        (signal.SIGHUP, numbers[0]),
        (signal.SIGINT, numbers[1]),
        (signal.SIGUSR1, signal.SIGUSR1),
    ):
        with listening(words) as (process, launcher):
            process.send_signal(sent)
            assert next_line(process) == come.name
            process.kill()
            assert gone(launcher)


def test_ranks_that_do_not_end_in_time_are_killed() -> None:
    program = "from seqbraid.launching import supervise; supervise._TIME_TO_END_S = 0.2; supervise.main()"
    words = [sys.executable, "-c", program, "--", sys.executable, "-c", LISTENER]
    with listening(words) as (process, launcher):
        process.send_signal(signal.SIGTERM)
        assert next_line(process) == "SIGTERM"
        assert gone(launcher)
        assert process.wait(30) == -signal.SIGKILL


def test_a_second_interrupt_kills() -> None:
    with listening([*SUPERVISE, "--", sys.executable, "-c", LISTENER]) as (process, launcher):
        process.send_signal(signal.SIGINT)
        assert next_line(process) == "SIGINT"
        process.send_signal(signal.SIGINT)
        assert gone(launcher)
        assert process.wait(30) == -signal.SIGKILL


def test_launch_ends_with_the_exit_code_of_the_job() -> None:
    assert subprocess.run([*SUPERVISE, "--", "sh", "-c", "exit 5"], check=False).returncode == 5


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_kills_for_want_of_memory_are_counted_in_both_kinds_of_cgroups(tmp_path: Path) -> None:
    assert memory_kills(tmp_path) == 0
    write(tmp_path / "proc/vmstat", "pgfault 77\noom_kill 3\nnr_free 5\n")
    assert memory_kills(tmp_path) == 3
    write(tmp_path / "proc/self/cgroup", "5:cpu:/other\n4:memory:/slurm/job_7\n0::/user/step_0\n")
    write(
        tmp_path / "sys/fs/cgroup/user/step_0/memory.events", "low 1\noom 9\noom_kill 20\noom_group_kill 5\n"
    )
    write(tmp_path / "sys/fs/cgroup/memory/slurm/job_7/memory.oom_control", "under_oom 0\noom_kill 100\n")
    assert memory_kills(tmp_path) == 123


def test_a_kill_is_blamed_on_memory_as_far_as_that_is_known() -> None:
    assert "(SIGKILL), since memory ran out; a smaller batch" in _describe(9, True)
    assert "(SIGKILL), as the system does when memory runs out; a smaller" in _describe(9, False)
    assert _describe(64, True) == f"signal 64 ({signal.Signals(64).name})"
    assert _describe(40, True) == "signal 40"
