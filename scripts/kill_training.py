"""Kill `seqbraid train` again and again, go on with --resume each time, and compare what it ends with.

The training runs once undisturbed, into OUT/reference. Then it runs into OUT/killed, where SIGKILL strikes
one of its ranks, all of them, mpiexec, or every process there is; every third time while it starts, else
when it has come a random part of its way. Every fourth kill is followed by damage to the newest checkpoint.
After each kill no process may be left; in the end weights and metrics have to be those of the undisturbed
run, bit for bit. With --signals, SIGTERM and SIGUSR1 strike in turn instead, and once it has made an update
the training must end with exit code 0. What follows -- goes to `seqbraid train`. The exit code is 1 where a
check failed. Linux only.

example:
  python scripts/kill_training.py data.npz kills/ --kills 30 --ranks 3 -- --solver mgrit --epochs 4
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from watched_job import JobProcess, WatchedJob

_ENDS_WITHIN_S = 15.0
_LEFT_S = 5.0
_POLL_S = 0.01
_TIMES = ("train_seconds", "test_seconds", "seconds")

TARGETS = ("a rank", "all ranks", "mpiexec", "everything")


class KilledTraining:
    """The training that is killed: starts it, strikes, and checks what is left; `problems` counts."""

    def __init__(self, options: argparse.Namespace, startup: float, updates: int) -> None:
        self.problems = 0
        self._options, self._startup, self._updates = options, startup, updates
        self._run = options.out / "killed"
        self._random = random.Random(options.seed)

    def run(self) -> None:
        """Let all kills strike, each at a job of its own, then let the training come to its end."""
        count = self._options.kills
        ways = sorted(self._random.randrange(self._updates) for _ in range(count))
        for number, way in enumerate(ways):
            job = start(self._options, self._run)
            if number % 3 == 2:
                time.sleep(self._random.uniform(0.0, self._startup))
            else:
                self._wait_for(job, way)
            if not job.running():
                self._require(job.wait(1.0) == 0, f"it ended by itself, not well:\n{job.errors}")
                print(f"kill {number + 1:3d}  came too late: the training was at its end", flush=True)
                continue
            seconds, reached = job.seconds, latest_update(self._run)
            struck = self._signal(job, number) if self._options.signals else self._strike(job)
            code = job.wait(_ENDS_WITHIN_S)
            left = job.left_over(_LEFT_S)
            self._require(not left, f"left over after {_LEFT_S} s: {left}")
            job.kill(left)
            self._require("Traceback" not in job.errors, f"a traceback:\n{job.errors}")
            if not self._options.signals:
                self._require(code != 0, "it was killed, and its exit code is 0")
            elif number % 3 != 2:
                self._require(code == 0, f"{struck} ended it with exit code {code}:\n{job.errors}")
                self._require((self._run / "stopped").exists(), "it left no word that it was stopped")
            damaged = ""
            if number % 4 == 3 and (path := newest(self._run)) is not None:
                path.write_bytes(path.read_bytes()[: self._random.randrange(path.stat().st_size)])
                damaged = "  newest checkpoint torn"
            print(
                f"kill {number + 1:3d}  after {seconds:5.1f} s  {struck:22s} exit code {code:3d}  "
                f"update {reached} of {self._updates}{damaged}",
                flush=True,
            )
        job = start(self._options, self._run)
        self._require(job.wait(self._options.limit) == 0, f"the last run failed:\n{job.errors}")

    def _wait_for(self, job: WatchedJob, way: int) -> None:
        # Where an earlier kill came later than this one was meant to, for one update more.
        before = latest_update(self._run)
        target = way if before is None else max(way, before + 1)
        while job.running() and ((reached := latest_update(self._run)) is None or reached < target):
            time.sleep(_POLL_S)

    def _strike(self, job: WatchedJob) -> str:
        there = job.processes()
        ranks = [process for process in there if process.kind == "rank"]
        target = self._random.choice(TARGETS)
        struck: list[JobProcess] = {
            "a rank": ranks and [self._random.choice(ranks)],
            "all ranks": ranks,
            "mpiexec": [process for process in there if process.kind == "mpiexec"],
            "everything": there,
        }[target]
        target, struck = (target, struck) if struck else ("everything", there)
        job.kill(struck)
        while target == "everything" and (more := job.processes()):
            job.kill(more)  # until the launcher is gone it may start more
        return f"{len(struck)} ({f'rank {struck[0].rank}' if target == 'a rank' else target})"

    def _signal(self, job: WatchedJob, number: int) -> str:
        """Send the signals that clusters send, to every rank as they do."""
        name = ("SIGTERM", "SIGUSR1")[number % 2]
        for process in job.processes():
            if process.kind == "rank":
                os.kill(process.pid, getattr(signal, name))
        return name

    def _require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems += 1
            print(f"FAILED: {problem}", flush=True)


def newest(run: Path) -> Path | None:
    """Return the newest checkpoint of a run."""
    return max((run / "checkpoints").glob("update-*.pt"), default=None)


def latest_update(run: Path) -> int | None:
    """Return how many updates the newest checkpoint has behind it."""
    path = newest(run)
    return None if path is None else int(path.stem.partition("-")[2])


def start(options: argparse.Namespace, run: Path) -> WatchedJob:
    """Start the training, or go on with it."""
    # A checkpoint after every update: any may be the last.
    words = ["train", str(options.data), "--output", str(run), "--resume", "--checkpoint-minutes", "0"]
    return WatchedJob([*words, *options.train], options.ranks, options.out)


def undisturbed(options: argparse.Namespace) -> tuple[float, int]:
    """Train once and return the seconds until the first update, and the number of updates."""
    run = options.out / "reference"
    job = start(options, run)
    while job.running() and not latest_update(run):
        time.sleep(_POLL_S)
    startup = job.seconds
    if code := job.wait(options.limit):
        sys.exit(f"kill_training: the undisturbed run ended with exit code {code}:\n{job.errors}")
    updates = latest_update(run) or 0
    print(f"undisturbed: {updates} updates in {job.seconds:.1f} s, {startup:.1f} s to the first", flush=True)
    return startup, updates


def differences(one: Path, other: Path) -> list[str]:
    """Return what is not the same in two runs: weights to the bit, metrics but for times."""
    found = []
    for name in ("last.pt", "best.pt"):
        first, second = (torch.load(run / name, weights_only=True) for run in (one, other))
        for key, value in first["model"].items():
            if not torch.equal(value, second["model"][key]):
                found.append(f"{name}: {key}")
    if metrics(one) != metrics(other):
        found.append("metrics.jsonl")
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return a run's metrics without times."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in _TIMES} for line in lines]


def main() -> None:
    """Train undisturbed, then killed, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="what `seqbraid train` reads")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for two runs")
    for name, default, text in (
        ("kills", 30, "times that the training is killed"),
        ("ranks", 3, "ranks of the job"),
        ("seed", 0, "of all random choices"),
        ("limit", 1200, "seconds that a training may take that is left alone"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    parser.add_argument("--signals", action="store_true", help="send SIGTERM and SIGUSR1 instead")
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.train = arguments[cut + 1 :]
    if options.out.exists():
        sys.exit(f"kill_training: {options.out} is there already; choose another folder")
    options.out.mkdir(parents=True)
    killed = KilledTraining(options, *undisturbed(options))
    killed.run()
    if found := differences(options.out / "reference", options.out / "killed"):
        sys.exit(f"kill_training: these differ from the undisturbed run's: {', '.join(found)}")
    if killed.problems:
        sys.exit(f"kill_training: {killed.problems} checks failed")
    print(f"{options.kills} kills: no process left, weights and metrics of the undisturbed run, bit for bit")


if __name__ == "__main__":
    main()
