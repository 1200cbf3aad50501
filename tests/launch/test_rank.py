"""The first program of a rank, without a launcher: the environment says what a launcher would."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from launching import ROOT

from seqbraid.launching.cores import affinity, cores_of_ranks, usable_cores

FOREIGN = ("PMI_", "PMIX_", "OMPI_", "MPI_LOCAL", "SLURM_")
SAY_CORES = "import os; print(sorted(os.sched_getaffinity(0)))"


def run_rank(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        [sys.executable, "-m", "seqbraid.launching.rank", *arguments],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        check=False,
        timeout=30,
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
@pytest.mark.parametrize(
    ("rank", "size"),
    [("MPI_LOCALRANKID", "MPI_LOCALNRANKS"), ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE")],
)
def test_a_rank_takes_its_cores_before_its_command(rank: str, size: str) -> None:
    ranks = len(usable_cores())
    layout = cores_of_ranks(usable_cores(), ranks, 1)
    assert layout is not None
    variables = {"PMI_RANK": "7", rank: str(ranks - 1), size: str(ranks)}
    done = run_rank("--pin", "1", "--", sys.executable, "-c", SAY_CORES, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{layout[-1]}\n"
    assert done.stderr == ""


def test_the_first_rank_of_a_machine_says_who_has_which_cores() -> None:
    told = {"PMI_RANK": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}
    done = run_rank("--pin", "1", "--tell", "--", "true", **told)
    assert f": cores of local rank 0: {usable_cores()[0][0]}\n" in done.stderr
    done = run_rank("--pin", "1", "--tell", "--", "true", **told | {"MPI_LOCALRANKID": "1"})
    assert done.stderr == ""


def test_ranks_that_outnumber_the_cores_of_a_machine_are_not_pinned() -> None:
    too_many = str(len(affinity()) + 1)
    told = {"PMI_RANK": "0", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": too_many}
    done = run_rank("--pin", "1", "--tell", "--", sys.executable, "-c", SAY_CORES, **told)
    assert done.stdout == f"{affinity()}\n"
    assert f"{too_many} ranks x 1 thread outnumber its {len(affinity())} cores" in done.stderr


@pytest.mark.parametrize("told", [{}, {"MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "2"}])
def test_a_rank_that_does_not_know_its_place_is_not_pinned(told: dict[str, str]) -> None:
    done = run_rank("--pin", "1", "--", sys.executable, "-c", SAY_CORES, PMIX_RANK="0", **told)
    assert done.stdout == f"{affinity()}\n"


def test_the_exit_code_is_the_command_s() -> None:
    assert run_rank("--tied", "--", "sh", "-c", "exit 9", PMI_RANK="0").returncode == 9


def test_processes_that_were_told_no_rank_do_not_run() -> None:
    done = run_rank("--", "echo", "alone")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did not tell the processes their ranks, so each would run alone" in done.stderr
    # One of srun's processes speaks for all.
    quiet = run_rank("--", "echo", "alone", SLURM_PROCID="1")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (2, "", "")
