"""Programs started for real under mpiexec."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_ranks(
    ranks: int, *command: str, timeout: float = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `python COMMAND...` on so many ranks, with MPICH, Open MPI or whatever mpiexec is there.

    For what needs a job of its own; what ends well goes faster on ranks that are there, see `conftest.py`.
    """
    return subprocess.run(
        command_of_ranks(ranks, *command),
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment_of_ranks(**variables),
        check=False,
    )


def command_of_ranks(ranks: int, *command: str) -> list[str]:
    """Return the command line of `python COMMAND...` on so many ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    assert mpiexec, "no mpiexec beside the interpreter or on PATH; install seqbraid[mpich]"
    return [mpiexec, "-n", str(ranks), sys.executable, *command]


def environment_of_ranks(**variables: str) -> dict[str, str]:
    """Return the environment of such a command."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        # Open MPI refuses root and more ranks than cores unless told otherwise; MPICH reads none of these.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        **variables,
    }
