"""How a job is to be started here: the launcher, its command line, the threads and cores of each rank."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from seqbraid.announced import launched_ranks
from seqbraid.errors import OptionsError
from seqbraid.launching.commands import Host, Job, command_line, parse_hosts, variables
from seqbraid.launching.cores import cores_of_ranks, describe_cores, size, usable_cores
from seqbraid.launching.launchers import (
    Launcher,
    Library,
    find_mpiexec,
    find_srun,
    identify,
    loaded_library,
    python,
    slurm_types,
)
from seqbraid.text import count

__all__ = ["Plan", "plan_job", "start"]

_COMMANDS = ("preprocess", "train", "evaluate", "predict", "verify", "bench", "plot", "compare", "info")

# What runs a script so that a rank that fails ends the job.
_RUN_SCRIPT = ("-m", "seqbraid.launching.script")

# Set where mpiexec asks a resource manager on which machines to start ranks.
_ALLOCATIONS = {
    "SLURM_JOB_ID": "Slurm",
    "PBS_NODEFILE": "PBS",
    "LSB_MCPU_HOSTS": "LSF",
    "PE_HOSTFILE": "Grid Engine",
}


@dataclass(frozen=True)
class Plan:
    """A job to start: the `words` of its command line, the `variables` of every rank, and `notes` on them.

    `notes` tell a person, line by line, what starts the job, where, and with which threads and cores.
    """

    launcher: Launcher
    words: list[str]
    variables: dict[str, str]
    notes: list[str]


def plan_job(
    words: Sequence[str],
    ranks: int,
    threads: int | None = None,
    hosts: str | None = None,
    launcher: str | None = None,
    pin: bool = True,
) -> Plan:
    """Return how to start `words`, a command of seqbraid or a Python script, on so many ranks.

    `threads` of each rank (default: OMP_NUM_THREADS, else the cores divided by the ranks); `hosts` as
    `parse_hosts` takes them; `launcher` is mpiexec, srun or the path of one. Raises `OptionsError` where it
    cannot be started like this, and within a job.
    """
    # srun need not announce ranks, but tells how many processes it started.
    already = max(launched_ranks(), _number_of_environment("SLURM_STEP_NUM_TASKS") or 1)
    if already > 1:
        raise OptionsError(
            f"this process is one of {already} ranks already; start launch without mpiexec or srun"
        )
    wanted = _Wanted(
        _command_of_ranks(words), ranks, threads, parse_hosts(hosts, ranks) if hosts else [], pin
    )
    library = loaded_library()
    chosen = _choose_launcher(launcher, library)
    slurm_type = _slurm_type(chosen, library) if chosen.family == "Slurm" else None
    notes = [f"{library}, started by {chosen.path}" + (f" --mpi={slurm_type}" if slurm_type else "")]
    if chosen.family == "Slurm":
        job = _job_of_slurm(wanted, notes)
    elif _is_this_machine(wanted.hosts):
        job = _job_of_this_machine(wanted, notes)
    else:
        job = _job_of_other_machines(wanted, notes)
    line = command_line(chosen, job, slurm_type)
    if "--allow-run-as-root" in line:
        notes.append("as root, which Open MPI refuses unless it is told --allow-run-as-root")
    notes += _replaced_variables(job, given=threads is not None)
    return Plan(chosen, line, variables(job), notes)


def start(plan: Plan) -> NoReturn:
    """Become the launcher, or on Linux the program that supervises it."""
    words = plan.words
    if plan.launcher.family != "Slurm" and sys.platform == "linux":
        # srun hands signals on by itself; elsewhere, a process cannot wait for them.
        carried = ["--carried"] if plan.launcher.family == "Open MPI" else []
        words = [*python(), "-m", "seqbraid.launching.supervise", *carried, "--", *words]
    # This process has imported much that nobody needs while the job runs.
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(words[0], words, {**os.environ, **plan.variables})


@dataclass(frozen=True)
class _Wanted:
    """What was asked for."""

    command: list[str]
    ranks: int
    threads: int | None
    hosts: Sequence[Host]
    pin: bool


def _command_of_ranks(words: Sequence[str]) -> list[str]:
    """Return the words that one rank runs; raises `OptionsError` where they are no command or script."""
    words = list(words[1:] if words[:1] == ["--"] else words)
    if words[:1] == ["seqbraid"]:
        del words[0]
    first = words[0] if words else ""
    if first in _COMMANDS:
        if any(word.partition("=")[0] == "--threads" for word in words):
            raise OptionsError(f"{first} has `threads` of its own; give it to launch alone, before the --")
        return [*python(), "-m", "seqbraid.cli.main", *words]
    if first.endswith(".py"):
        return [sys.executable, *_RUN_SCRIPT, *_existing_script(words)]
    if re.fullmatch(r"python[\d.]*", Path(first).name):
        if os.sep in first:
            # Nothing but mpi4py need be installed there.
            return [first, *_with_runner(words[1:], ("-m", "mpi4py"))]
        return [sys.executable, *_with_runner(words[1:], _RUN_SCRIPT)]
    raise OptionsError(
        f"{first!r} is nothing to launch; expected one of {', '.join(_COMMANDS)}, a script.py or "
        "`python ...`, as in seqbraid launch -n 2 -- info"
    )


def _with_runner(words: list[str], runner: Sequence[str]) -> list[str]:
    """Return the words after `python` with `runner` behind the interpreter's own options."""
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] not in ("-m", "-c", "-"):
        place += 2 if words[place] in ("-W", "-X") else 1
    rest = words[place:]
    if not rest or rest == ["-"]:
        raise OptionsError("python needs a script, -m MODULE or -c TEXT to run on every rank")
    if rest[:2] == ["-m", "mpi4py"]:
        return words
    if not rest[0].startswith("-"):
        _existing_script(rest)
    return [*words[:place], *runner, *rest]


def _existing_script(words: list[str]) -> list[str]:
    if not Path(words[0]).exists():
        raise OptionsError(f"there is no script {words[0]} in {Path.cwd()}")
    return words


def _choose_launcher(wish: str | None, library: Library) -> Launcher:
    """Return the launcher; raises `OptionsError` where there is none that fits the library."""
    if wish is None:
        return find_srun() or find_mpiexec(library)
    if wish == "mpiexec":
        return find_mpiexec(library)
    path = shutil.which(wish)
    if path is None:
        raise OptionsError(f"`launcher={wish}`: there is no such program; expected mpiexec, srun or a path")
    launcher = identify(str(Path(path).absolute()))
    if launcher is None:
        raise OptionsError(f"`launcher={wish}` is neither MPICH's or Open MPI's mpiexec nor Slurm's srun")
    if launcher.family == "Slurm":
        if "SLURM_JOB_ID" not in os.environ:
            raise OptionsError("`launcher=srun` works inside an allocation; use sbatch or salloc first")
    elif launcher.family != library.family:
        raise OptionsError(
            f"`launcher={wish}` is of {launcher.family}, and mpi4py loads {library}; take an mpiexec of that"
        )
    return launcher


def _slurm_type(launcher: Launcher, library: Library) -> str | None:
    """Return srun's --mpi for this library, None for what the cluster or SLURM_MPI_TYPE sets.

    A type that the library does not know would start every rank alone.
    """
    wanted = {"MPICH": "pmi2", "Open MPI": "pmix"}.get(library.family)
    if wanted is None or "SLURM_MPI_TYPE" in os.environ:
        return None
    types = slurm_types(launcher)
    if wanted in types:
        return wanted
    if library.family == "Open MPI":
        raise OptionsError(
            f"this Slurm (srun --mpi=list: {', '.join(types)}) has no pmix, without which srun cannot "
            "connect the ranks of Open MPI; take `launcher=mpiexec`, or MPICH"
        )
    return None


def _is_this_machine(hosts: Sequence[Host]) -> bool:
    """Return whether all ranks run here, as far as can be known before the start."""
    if not hosts:
        return not any(name in os.environ for name in _ALLOCATIONS)
    here = {"localhost", "127.0.0.1", platform.node(), platform.node().partition(".")[0]}
    return len(hosts) == 1 and hosts[0].name in here


def _job_of_this_machine(wanted: _Wanted, notes: list[str]) -> Job:
    cores = usable_cores()
    available = sum(map(len, cores))
    threads = (
        wanted.threads or _number_of_environment("OMP_NUM_THREADS") or max(1, len(cores) // wanted.ranks)
    )
    job_size = size(wanted.ranks, threads)
    can_pin = wanted.pin and hasattr(os, "sched_setaffinity")
    layout = cores_of_ranks(cores, wanted.ranks, threads)
    shared = f" with {available} hardware threads" if available > len(cores) else ""
    notes.append(
        f"{job_size} on this machine, {platform.node()} ({count(len(cores), 'core')} to use{shared})"
    )
    if layout is None:
        notes.append(
            f"warning: {job_size} outnumber the {count(available, 'core')}, so they wait for one another "
            f"and are not pinned; {_fewer(available, wanted.ranks)}"
        )
    elif can_pin:
        notes.append(f"cores of {describe_cores(layout)}")
    else:
        notes.append("not pinned" + ("" if not wanted.pin else ": this system cannot"))
    return Job(wanted.ranks, threads, wanted.command, wanted.hosts, pin=can_pin and layout is not None)


def _job_of_other_machines(wanted: _Wanted, notes: list[str]) -> Job:
    threads = wanted.threads or _number_of_environment("OMP_NUM_THREADS")
    if wanted.hosts:
        # The machines of a cluster are alike, and this may be one of them.
        threads = threads or max(1, len(usable_cores()) // max(host.ranks for host in wanted.hosts))
        notes.append(f"{size(wanted.ranks, threads)} on {_names(wanted.hosts)}")
    else:
        manager = next(manager for name, manager in _ALLOCATIONS.items() if name in os.environ)
        if threads is None:
            raise OptionsError(
                f"how many ranks {manager} puts on a machine is not known here; give `threads=N`"
            )
        notes.append(f"{size(wanted.ranks, threads)} where {manager} puts them")
    notes.append("each machine says which cores its ranks get" if wanted.pin else "not pinned")
    return Job(wanted.ranks, threads, wanted.command, wanted.hosts, pin=wanted.pin, tell=True)


def _job_of_slurm(wanted: _Wanted, notes: list[str]) -> Job:
    nodes = os.environ.get("SLURM_JOB_CPUS_PER_NODE", "")
    available = _slurm_cpus(nodes)
    threads = (
        wanted.threads
        or _number_of_environment("OMP_NUM_THREADS")
        or _number_of_environment("SLURM_CPUS_PER_TASK")
        or max(1, available // wanted.ranks)
    )
    job_size = size(wanted.ranks, threads)
    where = f" on {_names(wanted.hosts)}" if wanted.hosts else ""
    what = f" (CPUs of its nodes: {nodes})" if available else ""
    notes.append(f"{job_size}{where} in Slurm job {os.environ['SLURM_JOB_ID']}{what}")
    if 0 < available < wanted.ranks * threads:
        notes.append(
            f"warning: {job_size} outnumber the {count(available, 'CPU')} of the job, and srun may refuse "
            f"them; ask Slurm for more, or {_fewer(available, wanted.ranks)}"
        )
    notes.append("Slurm pins each rank; `-- info` shows to which cores" if wanted.pin else "not pinned")
    return Job(wanted.ranks, threads, wanted.command, wanted.hosts, pin=wanted.pin)


def _names(hosts: Sequence[Host]) -> str:
    return ", ".join(f"{host.name} ({count(host.ranks, 'rank')})" for host in hosts)


def _slurm_cpus(text: str) -> int:
    """Return the sum of `36(x2),20`, as Slurm writes the CPUs of a job's nodes; 0 for what is none."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in text.split(",")]
    return sum(int(part[1]) * int(part[2] or 1) for part in parts if part)


def _number_of_environment(name: str) -> int | None:
    """Return a variable where it is one number above 0, else None."""
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() and int(text) > 0 else None


def _replaced_variables(job: Job, given: bool) -> list[str]:
    """Return the note on what the environment said of threads, where it is something else."""
    replaced = [
        f"{name}={os.environ[name]}"
        for name, value in variables(job).items()
        if os.environ.get(name, value) != value
    ]
    if not replaced:
        return []
    reason = f"`threads={job.threads}`" if given else count(job.threads, "thread")
    return [f"{reason} for every rank, instead of {', '.join(replaced)} in the environment"]


def _fewer(cores: int, ranks: int) -> str:
    return f"take `threads={cores // ranks}`" if cores >= ranks else f"take `ranks={cores}` and `threads=1`"
