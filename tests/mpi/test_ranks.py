from pathlib import Path

import pytest
from launching import run_ranks

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("left_out", "told"),
    [("call", "a forward call: lengths of the ranks' slices"), ("make", "the first use of comm")],
)
def test_a_rank_that_does_not_call_is_told_of_in_bounded_time(left_out, told):
    done = run_ranks(3, str(HERE / "program_absent_rank.py"), left_out, SEQBRAID_TIME_LIMIT="2")
    assert done.returncode != 0
    assert f"waited 2 s in {told}" in done.stdout
    assert "some rank did not call it" in done.stdout


def test_ranks_of_a_foreign_launcher_are_noticed():
    # One process whose environment says that it is one of two: what a foreign mpiexec looks like.
    pretend = "import os; os.environ['OMPI_COMM_WORLD_SIZE'] = '2'"
    done = run_ranks(1, "-c", f"{pretend}; from seqbraid.comm import world; world()")
    assert done.returncode != 0
    assert "the launcher started 2 ranks, but mpi4py's library" in done.stderr
