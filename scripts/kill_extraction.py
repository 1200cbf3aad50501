"""Kill `seqbraid preprocess` again and again, start it again each time, and check what it leaves.

The job runs once undisturbed, into OUT/reference. Then it runs into OUT/killed, where SIGKILL strikes one of
its ranks, all of them, all with their decoders, a decoder alone, mpiexec, or every process there is: the
first time as soon as there is a folder, every third time while it starts, the last time when all clips are
done, else when it has come a random part of its way. After each kill no process may be left and no clip that
was done may be gone, damaged or done again; in the end every file has to be the same as that of the
undisturbed run. What follows -- goes to `seqbraid preprocess`. The exit code is 1 where a check failed.
Linux only.

example:
  python scripts/kill_extraction.py videos/ kills/ --kills 20 --ranks 3 \\
      -- --backbone squeezenet1_1 --weights random:0 --layer pool --size 64
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from watched_job import JobProcess, WatchedJob

from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError

_ENDS_WITHIN_S = 15.0
_LEFT_S = 5.0
_POLL_S = 0.02

TARGETS = ("a rank", "all ranks", "all ranks and decoders", "a decoder", "mpiexec", "everything")


class KilledExtraction:
    """The job that is killed: starts it, strikes, and checks what is left; `problems` is what was wrong."""

    def __init__(self, options: argparse.Namespace, startup: float, clips: int) -> None:
        self.problems: list[str] = []
        self._options, self._startup, self._clips = options, startup, clips
        self._store = options.out / "killed"
        self._random = random.Random(options.seed)
        self._targets: list[str] = []  # each comes once before one comes again
        self._done: set[int] = set()
        self._done_before_start = 0
        self._lost = 0  # clips that this start cannot finish, since their decoders were killed
        self._job: WatchedJob | None = None

    def run(self) -> None:
        """Let all kills strike, then let the job come to its end."""
        for number, place in enumerate(self._places()):
            job = self._start() if self._job is None else self._job
            self._wait_for(job, place)
            while not job.running():
                # It was done before; the kill strikes the next one as it starts.
                self._require_success(job)
                job = self._start()
                self._wait_for(job, self._random.uniform(0.0, self._startup))
            target, struck = self._strike(job)
            seconds = job.seconds
            if target == "a decoder":
                self._lost += 1
                self._look(self._done)
                outcome = "goes on"
            else:
                outcome = f"exit code {self._end(job)}"
            print(
                f"kill {number + 1:3d}  after {seconds:5.1f} s  {target:24s} {struck:2d} processes  "
                f"{outcome:14s} {self._state()}",
                flush=True,
            )
        self._require_success(self._start() if self._job is None else self._job)
        if failures := FeatureStore.open(self._store).failures():
            print(f"one more run, for the clips of decoders that were killed alone: {failures}")
            self._require_success(self._start())

    def _places(self) -> Iterator[float | int]:
        """Give for each kill seconds after the start (a float), or of clips done (0: a folder is there)."""
        rng, count = self._random, self._options.kills
        starting = range(3, count - 1, 3)
        clips = sorted(rng.randrange(1, self._clips) for _ in range(count - 2 - len(starting)))
        for number in range(count - 1):
            yield rng.uniform(0.0, self._startup) if number in starting else clips.pop(0) if number else 0
        yield self._clips

    def _require_success(self, job: WatchedJob) -> None:
        if code := self._end(job, self._options.limit):
            self._problem(f"a run that was left alone ended with exit code {code}:\n{job.errors}")

    def _start(self) -> WatchedJob:
        self._done_before_start, self._lost = len(self._done), 0
        self._job = start(self._options, self._store)
        return self._job

    def _wait_for(self, job: WatchedJob, place: float | int) -> None:
        """Wait until `place`; where an earlier kill came later than it was meant to, for one clip more."""
        if len(self._done) >= self._clips - self._lost:
            place = self._random.uniform(0.0, self._startup)
        if isinstance(place, float):
            time.sleep(max(0.0, place - job.seconds))
            return
        if place == 0:
            while job.running() and not self._store.exists():
                time.sleep(_POLL_S / 20)
            return
        most = self._clips - self._lost
        target = min(most, max(place, len(self._done) + 1))
        while job.running() and (lengths_of(self._store) > 0).sum() < target:
            time.sleep(_POLL_S)
        if target < most:
            time.sleep(self._random.uniform(0.0, 0.2))  # anywhere in the clips that follow

    def _strike(self, job: WatchedJob) -> tuple[str, int]:
        """Kill what a random choice falls on, or everything where there is no such process yet."""
        there = job.processes()
        ranks = [process for process in there if process.kind == "rank"]
        decoders = [process for process in there if process.kind == "decoder"]
        if not self._targets:
            self._targets = self._random.sample(TARGETS, len(TARGETS))
        target = self._targets.pop()
        struck: Sequence[JobProcess] = {
            "a rank": ranks and [self._random.choice(ranks)],
            "all ranks": ranks,
            "all ranks and decoders": ranks and [*ranks, *decoders],
            "a decoder": decoders and [self._random.choice(decoders)],
            "mpiexec": [process for process in there if process.kind == "mpiexec"],
            "everything": there,
        }[target]
        target, struck = (target, struck) if struck else ("everything", there)
        job.kill(struck)
        if target == "everything":
            # Until the launcher is gone it may start more.
            while more := job.processes():
                job.kill(more)
        return f"rank {struck[0].rank}" if target == "a rank" else target, len(struck)

    def _end(self, job: WatchedJob, within: float = _ENDS_WITHIN_S) -> int:
        """Wait for the end and check what is left; return the exit code."""
        self._job, before = None, self._done
        code = job.wait(within)
        left = job.left_over(_LEFT_S)
        if left:
            self._problem(f"left over after {_LEFT_S} s: {left}")
            job.kill(left)
        if "Traceback" in job.errors:
            self._problem(f"a traceback:\n{job.errors}")
        self._look(before)
        said = re.search(r"^\d+ clips of \d+ classes(?:, (\d+) there already)?", job.output, re.MULTILINE)
        if said and int(said[1] or 0) != self._done_before_start:
            self._problem(f"of {self._done_before_start} clips done before, the start said: {said[0]}")
        return code

    def _look(self, before: set[int]) -> None:
        """Check the clips that are done."""
        self._done = set(np.flatnonzero(lengths_of(self._store) > 0).tolist())
        if before - self._done:
            self._problem(f"clips {sorted(before - self._done)} were done and are not any more")
        damaged = self._done and self._damaged()
        if damaged:
            self._problem(f"clips {damaged} are done, but do not match their checksums")

    def _damaged(self) -> list[int]:
        # Only what was done before: ranks may write others meanwhile.
        damaged = FeatureStore.open(self._store, require_complete=False).damaged()
        return [index for index in damaged if index in self._done]

    def _state(self) -> str:
        if (self._store / "store.json").exists():
            return f"{len(self._done):5d} of {self._clips} clips done"
        return "store begun" if self._store.exists() else "no store yet"

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        print(f"FAILED: {text}", flush=True)


def lengths_of(folder: Path) -> npt.NDArray[np.int32]:
    """Return what the store says of each clip; nothing where there is no store yet."""
    if not (folder / "store.json").exists():
        return np.empty(0, dtype=np.int32)
    try:
        return FeatureStore.open(folder, require_complete=False).lengths
    except DataError as error:
        sys.exit(f"kill_extraction: a kill left a store that cannot be opened: {error}")


def start(options: argparse.Namespace, store: Path) -> WatchedJob:
    """Start the extraction into `store`."""
    arguments = ["preprocess", str(options.videos), str(store), *options.preprocess]
    return WatchedJob(arguments, options.ranks, options.out)


def undisturbed(options: argparse.Namespace) -> tuple[float, int]:
    """Run the job once and return the seconds until the first clip was done, and the number of clips."""
    job = start(options, options.out / "reference")
    startup = _seconds_until(lambda: bool((lengths_of(options.out / "reference") > 0).any()), job)
    code = job.wait(options.limit)
    if code:
        sys.exit(f"kill_extraction: the undisturbed run ended with exit code {code}:\n{job.errors}")
    store = FeatureStore.open(options.out / "reference")
    seconds = f"{job.seconds:.1f} s, the first after {startup:.1f} s"
    print(f"undisturbed: {len(store)} clips in {seconds}", flush=True)
    return startup, len(store)


def _seconds_until(happened: Callable[[], bool], job: WatchedJob) -> float:
    while job.running() and not happened():
        time.sleep(_POLL_S)
    return job.seconds


def differing_files(one: Path, other: Path) -> list[str]:
    """Return the names of files that are not the same in both folders."""
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (one, other))
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def main() -> None:
    """Run the job undisturbed, then killed, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="what `seqbraid preprocess` reads")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for two feature stores")
    for name, default, text in (
        ("kills", 20, "times that the job is killed"),
        ("ranks", 2, "ranks of the job"),
        ("seed", 0, "of all random choices"),
        ("limit", 1200, "seconds that a job may take that is left alone"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.preprocess = arguments[cut + 1 :]
    if options.out.exists():
        sys.exit(f"kill_extraction: {options.out} is there already; choose another folder")
    options.out.mkdir(parents=True)
    killed = KilledExtraction(options, *undisturbed(options))
    killed.run()
    problems = len(killed.problems)
    if differing := differing_files(options.out / "reference", options.out / "killed"):
        sys.exit(f"kill_extraction: files differ from the undisturbed run's: {differing}")
    if problems:
        sys.exit(f"kill_extraction: {problems} checks failed")
    print(f"{options.kills} kills: no process left, no clip lost, the same bytes as the undisturbed run")


if __name__ == "__main__":
    main()
