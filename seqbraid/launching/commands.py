"""The command line that starts a job: one function a family of launchers, all from the same `Job`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqbraid.errors import OptionsError
from seqbraid.launching.launchers import Launcher, python

__all__ = ["THREAD_VARIABLES", "Host", "Job", "command_line", "parse_hosts", "variables"]

# PyTorch takes OpenMP's number, or MKL's where it has MKL; NumPy that of its OpenBLAS.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

# What finds this installation again on another machine, for launchers that do not pass everything on.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONNOUSERSITE")


@dataclass(frozen=True)
class Host:
    """A machine and how many ranks it gets."""

    name: str
    ranks: int


@dataclass(frozen=True)
class Job:
    """What is to run: `ranks` ranks of `threads` threads; without `hosts` the launcher decides where."""

    ranks: int
    threads: int
    command: Sequence[str]
    hosts: Sequence[Host] = ()
    pin: bool = True
    tell: bool = False  # each machine says which cores it gives


def variables(job: Job) -> dict[str, str]:
    """Return the environment variables that every rank gets."""
    return dict.fromkeys(THREAD_VARIABLES, str(job.threads))


def parse_hosts(text: str, ranks: int) -> list[Host]:
    """Return how `ranks` ranks are divided over `a,b` (as equally as can be) or `a:4,b:2` (so many each).

    Ranks that follow one another are on one machine, since they exchange the most. Raises `OptionsError`
    where the places are not as many as the ranks.
    """
    names, places = [], []
    for part in text.split(","):
        found = re.fullmatch(r"([^:,\s]+)(?::([1-9]\d*))?", part.strip())
        if found is None:
            raise OptionsError(f"`hosts` has {part.strip()!r}; expected HOST or HOST:RANKS, as in a:4,b:4")
        names.append(found[1])
        places.append(int(found[2] or 0))
    if len(set(names)) < len(names):
        raise OptionsError(f"`hosts={text}` names a host twice; write HOST:RANKS for several ranks on it")
    if any(places) and not all(places):
        raise OptionsError(f"`hosts={text}`: write the number of ranks with every host, or with none")
    if not any(places):
        if ranks < len(names):
            raise OptionsError(f"`hosts` names {len(names)} hosts for {ranks} ranks; name at most {ranks}")
        places = [ranks // len(names) + (index < ranks % len(names)) for index in range(len(names))]
    if sum(places) != ranks:
        raise OptionsError(f"`hosts={text}` has places for {sum(places)} ranks, and `ranks` is {ranks}")
    return [Host(name, count) for name, count in zip(names, places, strict=True)]


def command_line(
    launcher: Launcher, job: Job, slurm_type: str | None = None, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Return the words that start the job; `slurm_type` is how `srun` connects ranks (None: its default)."""
    if launcher.family == "Slurm":
        return _srun(launcher, job, slurm_type)
    if launcher.family == "Open MPI":
        return _open_mpi(launcher, job, environment)
    return _mpich(launcher, job)


def _mpich(launcher: Launcher, job: Job) -> list[str]:
    hosts = ["-hosts", _with_ranks(job.hosts)] if job.hosts else []
    return [launcher.path, *hosts, "-bind-to", "none", "-n", str(job.ranks), *_rank_command(job)]


def _open_mpi(launcher: Launcher, job: Job, environment: Mapping[str, str]) -> list[str]:
    words = [launcher.path, "-n", str(job.ranks), "--bind-to", "none"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-run-as-root")
    if job.hosts:
        words += ["--map-by", "slot", "--host", _with_ranks(job.hosts)]
        # Only those that are set: it warns of others.
        names = [*variables(job), *(name for name in environment if _passed_on(name))]
        for name in names:
            words += ["-x", name]
    elif launcher.major < 5:
        words += ["--map-by", "slot", "--oversubscribe"]
    else:
        # It counts cores without hyperthreads, and refuses more ranks; launch has counted for itself.
        words += ["--map-by", "slot:OVERSUBSCRIBE"]
    return [*words, *_rank_command(job, of_open_mpi=True)]


def _srun(launcher: Launcher, job: Job, slurm_type: str | None) -> list[str]:
    words = [launcher.path, "-n", str(job.ranks), f"--cpus-per-task={job.threads}"]
    # Slurm alone knows which cores of a shared machine are this job's, so it pins.
    words += [f"--cpu-bind={'cores' if job.pin else 'none'}", "--export=ALL", "--kill-on-bad-exit=1"]
    if slurm_type is not None:
        words.append(f"--mpi={slurm_type}")
    if job.hosts:
        counts = {host.ranks for host in job.hosts}
        if len(counts) > 1:
            raise OptionsError(
                f"srun puts as many ranks on every host, not {_with_ranks(job.hosts)}; choose `ranks` as a "
                "multiple of the hosts, or take `launcher=mpiexec`"
            )
        names = ",".join(host.name for host in job.hosts)
        words += [f"--nodes={len(job.hosts)}", f"--nodelist={names}", f"--ntasks-per-node={counts.pop()}"]
    return [*words, *_rank_command(job, of_slurm=True)]


def _rank_command(job: Job, of_slurm: bool = False, of_open_mpi: bool = False) -> list[str]:
    words = [*python(), "-m", "seqbraid.launching.rank"]
    if not of_slurm:
        # Slurm pins, and ends its own processes.
        words.append("--tied")
        words += ["--carried"] if of_open_mpi else []
        words += ["--pin", str(job.threads)] if job.pin else []
        words += ["--tell"] if job.pin and job.tell else []
    return [*words, "--", *job.command]


def _with_ranks(hosts: Sequence[Host]) -> str:
    return ",".join(f"{host.name}:{host.ranks}" for host in hosts)


def _passed_on(name: str) -> bool:
    return name in _PASSED_ON or name.startswith(("SEQBRAID_", "MPI4PY_"))
