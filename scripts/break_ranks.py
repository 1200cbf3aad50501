"""Break one rank of a small training job in every way there is, and check how the job ends.

Each job is `seqbraid train` on 3 ranks, started by mpiexec and by `seqbraid launch`, with a fault on one rank
(tests/faults/program_with_fault.py). It has to end within 15 s of the fault, with an exit code other than 0
and no process left, and the first line on standard error has to name the rank. The MPI is that of the
interpreter that runs this script. The exit code is 1 where a job ended otherwise. Linux only.

examples:
  python scripts/break_ranks.py /tmp/broken
  python scripts/break_ranks.py /tmp/broken --faults kill,segfault --launchers launch --times 5
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from watched_job import ROOT, WatchedJob

_ENDS_WITHIN_S = 15.0
_LIMIT_S = 60.0
_LEFT_S = 3.0
_RANKS = 3

# KIND:PLACE of tests/faults/program_with_fault.py, and the call at which it strikes.
FAULTS = {
    "error at the start": "error:start:{rank}:1",
    "error in forward": "error:forward:{rank}:3",
    "error in backward": "error:backward:{rank}:1",
    "error of the data": "data:forward:{rank}:3",
    "error while others compute": "error:forward:{rank}:3,busy:forward:{other}:3",
    "error and later ones": "error:forward:{rank}:3,later:forward:{other}:3",
    "error in a thread": "thread:forward:{rank}:3",
    "error at the end": "error:end:{rank}:1",
    "sys.exit(5)": "exit:forward:{rank}:3",
    "sys.exit(0)": "exit0:forward:{rank}:3",
    "numpy out of memory": "numpy:forward:{rank}:3",
    "torch out of memory": "torch:forward:{rank}:3",
    "numba out of memory": "numba:forward:{rank}:3",
    "kill": "kill:forward:{rank}:3",
    "kill at the start": "kill:start:{rank}:1",
    "kill in backward": "kill:backward:{rank}:1",
    "kill while others compute": "kill:forward:{rank}:3,busy:forward:{other}:3",
    "segfault": "segfault:forward:{rank}:3",
    "segfault in backward": "segfault:backward:{rank}:1",
    "bus error": "bus:forward:{rank}:3",
    "abort": "abort:forward:{rank}:3",
    "terminate": "terminate:start:{rank}:1",
    "interrupt": "interrupt:forward:{rank}:3",
    "error while writing": "error:write:0:1",
    "kill while writing": "kill:write:0:2",
}


@dataclass(frozen=True)
class Outcome:
    """How one job ended; `problem` is what was wrong with it, or empty."""

    seconds: float
    first_line: str
    code: int
    left: int
    problem: str


def break_job(fault: str, rank: int, launcher: str, folder: Path, within: float = _ENDS_WITHIN_S) -> Outcome:
    """Run one job on the data in `folder` to its end."""
    struck = folder / "struck"
    struck.unlink(missing_ok=True)
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    words = ["train", str(folder / "data.npz"), "--output", str(run), "--epochs", "2", "--batch-size", "4"]
    words += ["--hidden-size", "4", "--solver", "mgrit", "--coarsening", "2"]
    program = [sys.executable, str(ROOT / "tests" / "faults" / "program_with_fault.py")]
    if launcher == "launch":
        command = [*program, "launch", "-n", str(_RANKS), "--threads", "1", "--", *words]
    else:
        command = [_mpiexec(), "-n", str(_RANKS), *program, *words]
    where = FAULTS[fault].format(rank=rank, other=(rank + 1) % _RANKS)
    job = WatchedJob((), _RANKS, folder, command, SEQBRAID_TEST_FAULT=where, SEQBRAID_TEST_STRUCK=str(struck))
    try:
        code = job.wait(_LIMIT_S)
    except TimeoutError:
        return Outcome(_LIMIT_S, _first_line(job.errors), -1, 0, "did not end")
    end = time.time()
    left = job.left_over(_LEFT_S)
    job.kill(left)
    seconds = end - float(struck.read_text()) if struck.exists() else -1.0
    first_line = _first_line(job.errors)
    problems = []
    if seconds < 0:
        problems.append("the fault did not strike")
    if seconds > within:
        problems.append("too late")
    if code == 0:
        problems.append("exit code 0")
    if left:
        problems.append(f"left: {left}")
    # What ends rank 0 before MPI starts may be the same everywhere, and is said without a rank.
    if not re.search(rf"\brank {rank}\b", first_line) and not (
        rank == 0 and first_line.startswith("seqbraid")
    ):
        problems.append(f"the first line does not name rank {rank}:\n{job.errors[:600]}")
    return Outcome(seconds, first_line, code, len(left), ", ".join(problems))


def write_data(folder: Path, steps: int = 24) -> None:
    """Write data.npz, small sequences of noise."""
    rng = np.random.default_rng(0)
    np.savez(
        folder / "data.npz",
        x_train=rng.normal(size=(12, steps, 2)).astype(np.float32),
        y_train=np.arange(12) % 3,
        x_test=rng.normal(size=(6, steps, 2)).astype(np.float32),
        y_test=np.arange(6) % 3,
    )


def _mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"


def _first_line(errors: str) -> str:
    """Return the first line that tells of a fault: not of the layout, and not one of a progress bar."""
    layout = (
        r"seqbraid launch: (.*started by|\d+ ranks|cores of|not pinned|warning|as root)"
        r"|\w+( \d+/\d+)?: \d+/\d+ seqs"
    )
    lines = (line for line in errors.splitlines() if line.strip() and not re.match(layout, line))
    return next(lines, "")


def main() -> None:
    """Break ranks and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for data, runs and what the jobs said")
    parser.add_argument("--faults", help=f"of {', '.join(FAULTS)} (default: all)")
    parser.add_argument("--launchers", default="mpiexec,launch", help="mpiexec, launch (default: both)")
    parser.add_argument("--ranks", default="0,1,2", help="which rank it strikes (default: 0,1,2)")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="jobs of each kind (default: 1)")
    options = parser.parse_args()
    faults = options.faults.split(",") if options.faults else list(FAULTS)
    if unknown := set(faults) - set(FAULTS):
        sys.exit(f"break_ranks: no such faults: {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_data(options.out)
    failed = total = 0
    print(f"{'fault':28s} rank launcher     s  code left  first line on standard error")
    for fault in faults * options.times:
        for rank in map(int, options.ranks.split(",")):
            if "{rank}" not in FAULTS[fault] and rank:
                continue
            for launcher in options.launchers.split(","):
                outcome = break_job(fault, rank, launcher, options.out)
                total += 1
                failed += bool(outcome.problem)
                print(
                    f"{fault:28s} {rank:4d} {launcher:8s} {outcome.seconds:5.1f} {outcome.code:5d} "
                    f"{outcome.left:4d}  {outcome.first_line[:150]}",
                    flush=True,
                )
                if outcome.problem:
                    print(f"  FAILED: {outcome.problem}", flush=True)
    if failed:
        sys.exit(f"break_ranks: {failed} of {total} jobs did not end as they have to")
    print(f"{total} jobs: each ended within {_ENDS_WITHIN_S:.0f} s, named the rank first and left nothing")


if __name__ == "__main__":
    main()
