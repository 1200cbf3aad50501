from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launching import run_ranks

import seqbraid as sb
from seqbraid.comm import SingleProcess, TaskQueue

PROGRAMS = Path(__file__).resolve().parents[1] / "mpi"


@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=30))
def test_one_process_gets_every_task_in_order(count, calls):
    queue = TaskQueue(SingleProcess(), count)
    taken, done, units = [], 0, 0
    # After the drawn calls, as many as it takes to come to the end.
    for wanted, most in [*calls, *[(3, 3)] * (count + 1)]:
        reported = min(most, len(taken) - done)
        new = queue.exchange(wanted, reported, 7 * reported)
        assert len(new) <= wanted
        taken += new
        done, units = done + reported, units + 7 * reported
        assert taken == list(range(len(taken)))
        assert (queue.done, queue.units) == (done, units)
        assert queue.exhausted == (len(taken) == count)
        assert queue.finished == (done == count)
    assert queue.finished


def test_an_empty_queue_is_finished_at_the_first_call():
    queue = TaskQueue(SingleProcess(), 0)
    assert not queue.finished
    assert queue.exchange(4) == []
    assert queue.exhausted
    assert queue.finished


def test_simulated_ranks_are_refused():
    with pytest.raises(TypeError, match="a task queue needs MPI or one process, not "):
        sb.SimulatedWorld(2).run(lambda comm: TaskQueue(comm, 3))
    # One rank has nobody to share with.
    [taken] = sb.SimulatedWorld(1).run(lambda comm: TaskQueue(comm, 3).exchange(8))
    assert taken == [0, 1, 2]


def test_a_rank_that_stays_away_is_told_of_in_bounded_time():
    done = run_ranks(4, str(PROGRAMS / "program_absent_from_queue.py"), timeout=50, SEQBRAID_TIME_LIMIT="2")
    assert done.returncode != 0
    assert "rank 1 waited 2 s for a task; rank 0 does not answer. SEQBRAID_TIME_LIMIT sets" in done.stdout
    assert "rank 1 was not heard of for 2 s while tasks were shared out. SEQBRAID_TIME" in done.stdout
