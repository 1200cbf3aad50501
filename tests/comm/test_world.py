from __future__ import annotations

import pytest

from seqbraid.announced import _SIZES, RANKS
from seqbraid.comm import SingleProcess, world
from seqbraid.errors import CommunicationError


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RANKS, *_SIZES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def test_processes_of_srun_that_know_no_rank_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(CommunicationError, match="srun started 2 processes and told none its rank"):
        world()


def test_one_process_within_a_slurm_step_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert isinstance(world(), SingleProcess)
    # mpiexec -n 1 on a node of a step that Slurm started for mpiexec itself.
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "1")
    assert isinstance(world(), SingleProcess)
