"""Ranks that are started once and make many calls for the tests, for real under mpiexec.

`SharedRanks(P).call(function, ...)` makes a call on each rank and returns their answers. After a call that
failed on any rank, the job is given up, and the next call starts another.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import runpy
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any

from launching import command_of_ranks, environment_of_ranks
from rank_server import Answer, Call

START_S = 120.0
CALL_S = 240.0
# So long ranks may take to fail after the first one did.
GRACE_S = 5.0
RunMain = Callable[..., subprocess.CompletedProcess[str]]
SERVER = Path(__file__).with_name("rank_server.py")


class RanksFailedError(AssertionError):
    """A call failed on some rank; the text has each rank's traceback and output."""


class SharedRanks:
    """A job of `ranks` ranks, started at the first call."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._job: _Job | None = None

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        module: str | None = None,
        file: str | None = None,
        variables: dict[str, str] | None = None,
        **named: Any,
    ) -> list[Answer]:
        """Call `function` on every rank, in this folder and with this process's SEQBRAID_ variables.

        All that is pickled: functions by the name of their module, which is imported from `file` if given.
        Raises `RanksFailedError` where a rank raises, dies or is not done in time.
        """
        ours = {name: value for name, value in os.environ.items() if name.startswith("SEQBRAID_")}
        call = Call(
            pickle.dumps((function, arguments, named)),
            os.getcwd(),  # noqa: PTH109
            ours | (variables or {}),
            module,
            file,
        )
        if self._job is None:
            self._job = _Job(self.ranks)
        try:
            return self._job.call(call)
        except BaseException:
            self.stop()
            raise

    def main(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `seqbraid WORDS...` on the ranks; for commands that end well, and with an exit code of 0."""
        done = self._completed(self.call(run_command, list(words), variables=variables))
        if done.returncode:
            # MPI has ended in this job.
            self.stop()
        return done

    def script(self, path: Path) -> subprocess.CompletedProcess[str]:
        """Run a Python script on the ranks."""
        return self._completed(self.call(run_script, path))

    def _completed(self, answers: Sequence[Answer]) -> subprocess.CompletedProcess[str]:
        code = next((answer.value for answer in answers if answer.value), 0)
        out, err = ("".join(getattr(answer, name) for answer in answers) for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([], code, out, err)

    def stop(self) -> None:
        """End the job."""
        if self._job is not None:
            self._job.end()
            self._job = None


def run_command(words: list[str]) -> int:
    """Run a command in this process and return its exit code."""
    from seqbraid.cli.main import main

    try:
        return main(words)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)


def run_script(path: Path) -> None:
    runpy.run_path(str(path), run_name="__main__")


class _Job:
    """A running job and the connections to its ranks."""

    def __init__(self, ranks: int) -> None:
        # Short, since names of sockets must be.
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        self._output = self._folder / "mpiexec"
        listener = Listener(str(self._folder / "socket"), backlog=ranks)
        command = command_of_ranks(ranks, str(SERVER), listener.address, str(self._folder))
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_of_ranks(),
                start_new_session=True,
            )
        self._connections: dict[int, Connection] = {}
        self._pids: dict[int, int] = {}
        try:
            with listener:
                self._accept(listener, ranks)
        except BaseException:
            self.end()
            raise

    def _accept(self, listener: Listener, ranks: int) -> None:
        socket = listener._listener._socket  # type: ignore[attr-defined]  # accept() has no time limit
        socket.settimeout(0.5)
        start = time.monotonic()
        while len(self._connections) < ranks:
            if self._process.poll() is not None or time.monotonic() - start > START_S:
                raise RanksFailedError(f"{ranks} ranks did not start:\n{self._said()}")
            try:
                connection = listener.accept()
            except TimeoutError:
                continue
            rank, pid = connection.recv()
            self._connections[rank], self._pids[rank] = connection, pid

    def call(self, call: Call) -> list[Answer]:
        answers: dict[int, Answer] = {}
        dead: list[int] = []
        end = time.monotonic() + CALL_S
        for connection in self._connections.values():
            connection.send(call)
        while missing := {c: r for r, c in self._connections.items() if r not in answers and r not in dead}:
            ready = wait(list(missing), max(0.0, end - time.monotonic()))
            if not ready:
                break
            for connection in ready:
                rank = missing[connection]  # type: ignore[index]
                try:
                    answers[rank] = connection.recv()  # type: ignore[union-attr]
                except (EOFError, OSError):
                    dead.append(rank)
                if rank in dead or answers[rank].error is not None:
                    end = min(end, time.monotonic() + GRACE_S)
        if len(answers) == len(self._connections) and all(each.error is None for each in answers.values()):
            return [answers[rank] for rank in sorted(answers)]
        raise RanksFailedError(self._report(answers, dead))

    def _report(self, answers: dict[int, Answer], dead: Sequence[int]) -> str:
        for rank in self._connections.keys() - answers.keys() - set(dead):
            os.kill(self._pids[rank], signal.SIGUSR2)  # it says where it is
        time.sleep(0.5)
        lines = []
        for rank in sorted(self._connections):
            title = f"rank {rank} of {len(self._connections)}"
            if rank in answers:
                answer = answers[rank]
                lines.append(f"{title}: {answer.error or 'done'}")
                said = {"stdout": answer.stdout, "stderr": answer.stderr}
            else:
                lines.append(f"{title}: {'ended' if rank in dead else 'was not done'}")
                paths = {"stdout": self._folder / f"{rank}.out", "stderr": self._folder / f"{rank}.err"}
                said = {name: path.read_text(errors="replace") for name, path in paths.items()}
            lines += [f"{title}, {name}:\n{text}" for name, text in said.items() if text]
        return "\n".join([*lines, self._said()])

    def _said(self) -> str:
        text = self._output.read_text(errors="replace")
        return f"mpiexec:\n{text}" if text else ""

    def end(self) -> None:
        """Kill the ranks: to leave by themselves takes them a second. mpiexec cleans up and ends then."""
        for connection in self._connections.values():
            connection.close()
        for pid in self._pids.values():
            _kill(os.kill, pid)
        try:
            self._process.wait(GRACE_S if self._pids else 0.0)
        except subprocess.TimeoutExpired:
            _kill(os.killpg, self._process.pid)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _kill(kill: Callable[[int, int], None], pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        kill(pid, signal.SIGKILL)
