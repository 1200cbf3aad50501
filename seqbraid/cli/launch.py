"""Start a command on several ranks, each with its own threads and cores.

COMMAND is one of seqbraid's (train, preprocess, evaluate, ...) or a Python script of yours (`script.py ...`
or `python script.py ...`, run with `-m mpi4py` so that a rank that fails ends the job). launch takes the
mpiexec of the MPI library that mpi4py loads, or srun inside a Slurm allocation; tells every rank's libraries
how many threads to use (OpenMP, MKL, OpenBLAS, Numba, PyTorch); gives every rank cores of its own among those
that this process may use; says what it does, and ends with the exit code of the job. The ranks
get its SIGTERM, SIGINT (ctrl-C) and SIGUSR1, and a minute to end after the first two; a second ctrl-C kills
them.

With --hosts, ranks run on other machines over ssh, where this folder, the data and the Python environment
must be under the same paths (a shared disk). Slurm pins the ranks of its jobs itself.

example:
  seqbraid launch -n 2 -- info
  seqbraid launch -n 4 --threads 2 -- train features/ --solver mgrit --coarsening 4 --output run/
  seqbraid launch -n 4 --threads 2 --dry-run -- train features/ --output run/    # only show it
  seqbraid launch -n 8 --hosts node1,node2 --threads 4 -- preprocess videos/ features/
  seqbraid launch -n 2 -- script.py --my-option
  taskset -c 0-3 seqbraid launch -n 2 -- verify                                  # on these cores
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from seqbraid.announced import launched_ranks
from seqbraid.cli.arguments import whole
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

__all__ = ["HELP", "add_arguments", "run"]

HELP = "start a command on several ranks, with threads and cores for each"

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid launch`."""
    parser.add_argument(
        "-n", type=whole(1, 10**6), required=True, metavar="RANKS", dest="ranks", help="number of ranks"
    )
    parser.add_argument(
        "--threads",
        type=whole(1, 4096),
        metavar="N",
        help="threads of each rank (default: OMP_NUM_THREADS, else the cores shared by the ranks)",
    )
    parser.add_argument(
        "--hosts",
        metavar="A,B",
        help="machines to run on, as a,b (ranks divided equally) or a:4,b:2 (so many ranks each)",
    )
    parser.add_argument(
        "--launcher",
        metavar="WHICH",
        help="mpiexec, srun, or the path of one (default: srun inside a Slurm allocation, else the mpiexec "
        "that belongs to mpi4py's library)",
    )
    parser.add_argument(
        "--no-pin",
        dest="pin",
        action="store_false",
        help="let ranks run on any core, as several jobs on one machine at once must",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the layout, print the command line, and start nothing"
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what every rank runs")


def run(options: argparse.Namespace) -> None:
    """Show the layout and start the job."""
    # srun need not announce ranks, but tells how many processes it started.
    already = max(launched_ranks(), _number_of_environment("SLURM_STEP_NUM_TASKS") or 1)
    if already > 1:
        raise OptionsError(
            f"this process is one of {already} ranks already; start launch without mpiexec or srun"
        )
    command = _command_of_ranks(options.words)
    hosts = parse_hosts(options.hosts, options.ranks) if options.hosts else []
    library = loaded_library()
    launcher = _choose_launcher(options.launcher, library)
    slurm_type = _slurm_type(launcher, library) if launcher.family == "Slurm" else None
    _say(f"{library}, started by {launcher.path}" + (f" --mpi={slurm_type}" if slurm_type else ""))
    if launcher.family == "Slurm":
        job = _job_of_slurm(options, command, hosts)
    elif _is_this_machine(hosts):
        job = _job_of_this_machine(options, command, hosts)
    else:
        job = _job_of_other_machines(options, command, hosts)
    words = command_line(launcher, job, slurm_type)
    if "--allow-run-as-root" in words:
        _say("as root, which Open MPI refuses unless it is told --allow-run-as-root")
    _tell_of_replaced_variables(job, given=options.threads is not None)
    if options.dry_run:
        settings = [f"{name}={value}" for name, value in variables(job).items()]
        print(*settings, shlex.join(words))
        return
    if launcher.family != "Slurm" and sys.platform == "linux":
        # srun hands signals on by itself; elsewhere, a process cannot wait for them.
        carried = ["--carried"] if launcher.family == "Open MPI" else []
        words = [*python(), "-m", "seqbraid.launching.supervise", *carried, "--", *words]
    _become(words, {**os.environ, **variables(job)})


def _become(words: list[str], environment: dict[str, str]) -> NoReturn:
    # This process has imported much that nobody needs while the job runs.
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(words[0], words, environment)


def _say(text: str) -> None:
    print(f"seqbraid launch: {text}", file=sys.stderr, flush=True)


def _command_of_ranks(words: Sequence[str]) -> list[str]:
    """Return the words that one rank runs; raises `OptionsError` where they are no command or script."""
    words = list(words[1:] if words[:1] == ["--"] else words)
    if words[:1] == ["seqbraid"]:
        del words[0]
    first = words[0] if words else ""
    if first in _COMMANDS:
        if any(word.partition("=")[0] == "--threads" for word in words):
            raise OptionsError(f"{first} has --threads of its own; give it to launch alone, before the --")
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
        raise OptionsError(f"--launcher {wish}: there is no such program; expected mpiexec, srun or a path")
    launcher = identify(str(Path(path).absolute()))
    if launcher is None:
        raise OptionsError(f"--launcher {wish} is neither MPICH's or Open MPI's mpiexec nor Slurm's srun")
    if launcher.family == "Slurm":
        if "SLURM_JOB_ID" not in os.environ:
            raise OptionsError("--launcher srun works inside an allocation; use sbatch or salloc first")
    elif launcher.family != library.family:
        raise OptionsError(
            f"--launcher {wish} is of {launcher.family}, and mpi4py loads {library}; take an mpiexec of that"
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
            "connect the ranks of Open MPI; take --launcher mpiexec, or MPICH"
        )
    return None


def _is_this_machine(hosts: Sequence[Host]) -> bool:
    """Return whether all ranks run here, as far as can be known before the start."""
    if not hosts:
        return not any(name in os.environ for name in _ALLOCATIONS)
    here = {"localhost", "127.0.0.1", platform.node(), platform.node().partition(".")[0]}
    return len(hosts) == 1 and hosts[0].name in here


def _job_of_this_machine(options: argparse.Namespace, command: list[str], hosts: Sequence[Host]) -> Job:
    cores = usable_cores()
    available = sum(map(len, cores))
    threads = (
        options.threads or _number_of_environment("OMP_NUM_THREADS") or max(1, len(cores) // options.ranks)
    )
    job_size = size(options.ranks, threads)
    can_pin = options.pin and hasattr(os, "sched_setaffinity")
    layout = cores_of_ranks(cores, options.ranks, threads)
    shared = f" with {available} hardware threads" if available > len(cores) else ""
    _say(f"{job_size} on this machine, {platform.node()} ({count(len(cores), 'core')} to use{shared})")
    if layout is None:
        _say(
            f"warning: {job_size} outnumber the {count(available, 'core')}, so they wait for one another "
            f"and are not pinned; {_fewer(available, options.ranks)}"
        )
    elif can_pin:
        _say(f"cores of {describe_cores(layout)}")
    else:
        _say("not pinned" + ("" if not options.pin else ": this system cannot"))
    return Job(options.ranks, threads, command, hosts, pin=can_pin and layout is not None)


def _job_of_other_machines(options: argparse.Namespace, command: list[str], hosts: Sequence[Host]) -> Job:
    threads = options.threads or _number_of_environment("OMP_NUM_THREADS")
    if hosts:
        # The machines of a cluster are alike, and this may be one of them.
        threads = threads or max(1, len(usable_cores()) // max(host.ranks for host in hosts))
        _say(f"{size(options.ranks, threads)} on {_names(hosts)}")
    else:
        manager = next(manager for name, manager in _ALLOCATIONS.items() if name in os.environ)
        if threads is None:
            raise OptionsError(
                f"how many ranks {manager} puts on a machine is not known here; give --threads N"
            )
        _say(f"{size(options.ranks, threads)} where {manager} puts them")
    _say("each machine says which cores its ranks get" if options.pin else "not pinned")
    return Job(options.ranks, threads, command, hosts, pin=options.pin, tell=True)


def _job_of_slurm(options: argparse.Namespace, command: list[str], hosts: Sequence[Host]) -> Job:
    nodes = os.environ.get("SLURM_JOB_CPUS_PER_NODE", "")
    available = _slurm_cpus(nodes)
    threads = (
        options.threads
        or _number_of_environment("OMP_NUM_THREADS")
        or _number_of_environment("SLURM_CPUS_PER_TASK")
        or max(1, available // options.ranks)
    )
    job_size = size(options.ranks, threads)
    where = f" on {_names(hosts)}" if hosts else ""
    what = f" (CPUs of its nodes: {nodes})" if available else ""
    _say(f"{job_size}{where} in Slurm job {os.environ['SLURM_JOB_ID']}{what}")
    if 0 < available < options.ranks * threads:
        _say(
            f"warning: {job_size} outnumber the {count(available, 'CPU')} of the job, and srun may refuse "
            f"them; ask Slurm for more, or {_fewer(available, options.ranks)}"
        )
    _say("Slurm pins each rank; `-- info` shows to which cores" if options.pin else "not pinned")
    return Job(options.ranks, threads, command, hosts, pin=options.pin)


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


def _tell_of_replaced_variables(job: Job, given: bool) -> None:
    replaced = [
        f"{name}={os.environ[name]}"
        for name, value in variables(job).items()
        if os.environ.get(name, value) != value
    ]
    if replaced:
        reason = f"--threads {job.threads}" if given else count(job.threads, "thread")
        _say(f"{reason} for every rank, instead of {', '.join(replaced)} in the environment")


def _fewer(cores: int, ranks: int) -> str:
    return f"take --threads {cores // ranks}" if cores >= ranks else f"take -n {cores} --threads 1"
