"""A `seqbraid` job that is watched: which processes it has, what memory they take, what is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JobProcess", "WatchedJob"]

ROOT = Path(__file__).resolve().parents[1]
_MARK = "SEQBRAID_WATCHED_JOB"
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
_SAMPLED_S = 0.2


@dataclass(frozen=True)
class JobProcess:
    """One process: `kind` is rank, decoder (of the rank `rank`), mpiexec, or launcher (mpiexec's helpers)."""

    pid: int
    kind: str
    rank: int


class WatchedJob:
    """`seqbraid ARGUMENTS...` on so many ranks, one thread each, or `command`, started at once; Linux only.

    Other keywords are variables of its environment.
    Its processes are found by a mark in their environment, wherever their parents went. `peak_kb` is the
    highest memory in use {kind: kB}, sampled while it runs. Standard output and error end in files in
    `folder`, read by `output` and `errors`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        ranks: int,
        folder: Path,
        command: Sequence[str] = (),
        **variables: str,
    ) -> None:
        beside = Path(sys.executable).with_name("mpiexec")
        mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
        if mpiexec is None:
            raise FileNotFoundError("no mpiexec beside the interpreter or on PATH; install seqbraid[mpich]")
        self.peak_kb: dict[str, int] = {}
        self._mark = uuid.uuid4().hex
        self._places = (folder / f"{self._mark}.out", folder / f"{self._mark}.err")
        environment = {
            **os.environ,
            _MARK: self._mark,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            # Open MPI refuses root and more ranks than cores unless told otherwise.
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            **variables,
        }
        command = command or [
            mpiexec,
            "-n",
            str(ranks),
            sys.executable,
            "-m",
            "seqbraid.cli.main",
            *arguments,
        ]
        self._start = time.monotonic()
        self._end: float | None = None
        with self._places[0].open("wb") as output, self._places[1].open("wb") as errors:
            self._launcher = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        threading.Thread(target=self._sample, daemon=True).start()

    @property
    def seconds(self) -> float:
        """Time since the start, until the end if `wait` saw it."""
        return (self._end or time.monotonic()) - self._start

    @property
    def output(self) -> str:
        """What came on standard output so far."""
        return self._places[0].read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What came on standard error so far."""
        return self._places[1].read_text(errors="replace")

    def running(self) -> bool:
        """Whether the launcher has not ended yet."""
        return self._launcher.poll() is None

    def wait(self, timeout: float) -> int:
        """Return the job's exit code; raises `TimeoutError`, with everything killed, if it takes longer."""
        try:
            code = self._launcher.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill(self.processes())
            raise TimeoutError(f"the job did not end within {timeout:.0f} s:\n{self.errors}") from None
        self._end = time.monotonic()
        return code

    def processes(self) -> list[JobProcess]:
        """Return the processes that there are now."""
        mark = f"{_MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # ended meanwhile, or somebody else's
            if mark in variables:
                pid = int(entry.name)
                kind = "mpiexec" if pid == self._launcher.pid else _kind(words)
                found.append(JobProcess(pid, kind, _rank(variables)))
        return found

    def kill(self, processes: Sequence[JobProcess]) -> None:
        """Send SIGKILL to each of them."""
        for process in processes:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the launcher."""
        self._launcher.send_signal(number)

    def left_over(self, within: float) -> list[JobProcess]:
        """Wait up to so many seconds for every process to end; return those that did not."""
        deadline = time.monotonic() + within
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _sample(self) -> None:
        while self.running():
            for process in self.processes():
                peak = _peak_kb(process.pid)
                self.peak_kb[process.kind] = max(peak, self.peak_kb.get(process.kind, 0))
            time.sleep(_SAMPLED_S)


def _kind(words: Sequence[bytes]) -> str:
    module = words[2] if words[1:2] == [b"-m"] else b""
    return {b"seqbraid.cli.main": "rank", b"preprocess.decoder_process": "decoder"}.get(module, "launcher")


def _rank(variables: Sequence[bytes]) -> int:
    values = dict(entry.split(b"=", 1) for entry in variables if b"=" in entry)
    return next((int(values[name.encode()]) for name in _RANKS if name.encode() in values), 0)


def _peak_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)
