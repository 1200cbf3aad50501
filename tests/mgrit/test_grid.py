from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbraid.comm import SingleProcess
from seqbraid.mgrit import Partition, local_slice


def rank_of(size, rank):
    """Return something that can answer for one rank; `local_slice` asks for no more than rank and size."""
    communicator = SingleProcess()
    communicator.size, communicator.rank = size, rank
    return communicator


@given(T=st.integers(1, 500), ranks=st.integers(1, 40), coarsening=st.integers(1, 70))
def test_slices_cover_the_sequence_in_whole_intervals_as_equal_as_can_be(T, ranks, coarsening):
    slices = [local_slice(T, rank_of(ranks, rank), coarsening) for rank in range(ranks)]
    assert [step for held in slices for step in range(held.start, held.stop)] == list(range(T))
    assert all(held.start % coarsening == 0 or held.start == T for held in slices)
    intervals = [-(-(held.stop - held.start) // coarsening) for held in slices]
    assert max(intervals) - min(intervals) <= 1
    lengths = [held.stop - held.start for held in slices]
    for rank in range(ranks):
        partition = Partition.from_lengths(lengths, rank, coarsening)
        assert partition.total == T
        assert (partition.start, partition.steps) == (slices[rank].start, lengths[rank])


def test_idle_ranks_have_no_neighbours_and_are_passed_over():
    partitions = [Partition((4, 0, 8, 0), rank) for rank in range(4)]
    assert [(each.previous, each.next) for each in partitions] == [
        (None, 2),
        (None, None),
        (0, None),
        (None, None),
    ]
    assert (partitions[1].first_holder, partitions[1].last_holder) == (0, 2)


@pytest.mark.parametrize(("T", "coarsening"), [(0, 4), (-3, 4), (5, 0)])
def test_nonsense_is_refused_by_value(T, coarsening):
    with pytest.raises(ValueError, match=f"is {min(T, coarsening)}; expected"):
        local_slice(T, None, coarsening)


def test_slices_not_cut_at_intervals_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"ranks 0 and 1 meet at step 6.*local_slice\(14, comm, 4\)"):
        Partition.from_lengths([6, 8], 0, 4)


def test_the_last_slice_may_end_anywhere():
    assert Partition.from_lengths([8, 3, 0], 0, 4).total == 11


def test_a_foreign_object_is_no_communicator():
    with pytest.raises(TypeError, match="SimpleNamespace; expected None, an mpi4py"):
        local_slice(4, SimpleNamespace())
