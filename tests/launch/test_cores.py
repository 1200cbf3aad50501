from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launching import ROOT

from seqbraid.launching.cores import Core, cores_of_ranks, describe_cores, ranges, size, usable_cores


@st.composite
def machines(draw: st.DrawFn) -> list[Core]:
    """Return cores of one to four hardware threads each, numbered in any order."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    numbers = iter(draw(st.permutations(range(sum(sizes)))))
    return [tuple(next(numbers) for _ in range(count)) for count in sizes]


@given(machines(), st.integers(1, 12), st.integers(1, 8))
def test_ranks_get_disjoint_cores_of_the_machine(cores: list[Core], ranks: int, threads: int) -> None:
    layout = cores_of_ranks(cores, ranks, threads)
    everything = [number for core in cores for number in core]
    if layout is None:
        assert ranks * threads > len(everything)
        return
    assert [len(numbers) for numbers in layout] == [threads] * ranks
    taken = [number for numbers in layout for number in numbers]
    assert len(set(taken)) == ranks * threads
    assert set(taken) <= set(everything)
    if ranks * threads <= len(cores):
        core_of = {number: core for core in cores for number in core}
        assert len({core_of[number] for number in taken}) == ranks * threads


def test_ranks_are_spread_over_the_sockets() -> None:
    assert cores_of_ranks([(number,) for number in range(16)], 2, 4) == [[0, 1, 2, 3], [8, 9, 10, 11]]


def test_where_threads_outnumber_cores_a_rank_has_both_threads_of_its_cores() -> None:
    assert cores_of_ranks([(0, 4), (1, 5), (2, 6), (3, 7)], 2, 4) == [[0, 4, 1, 5], [2, 6, 3, 7]]


def write_topology(folder: Path) -> None:
    """Write two sockets, of even and of odd numbers, with two cores of two hardware threads each."""
    for number in range(8):
        topology = folder / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{number % 2}\n")
        (topology / "thread_siblings_list").write_text(f"{number % 4},{number % 4 + 4}\n")


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (range(8), [(0, 4), (2, 6), (1, 5), (3, 7)]),
        ({1, 2, 3, 6}, [(2, 6), (1,), (3,)]),
        ({7}, [(7,)]),
        # Not in the folder: nothing is known of them.
        ({0, 8, 9}, [(0,), (8,), (9,)]),
    ],
)
def test_cores_are_those_of_the_mask_socket_by_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: set[int], expected: list[Core]
) -> None:
    write_topology(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(mask))
    assert usable_cores(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_cores_of_this_machine_are_within_the_mask() -> None:
    chosen = max(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{chosen}]); import json; "
        "from seqbraid.launching.cores import usable_cores; print(json.dumps(usable_cores()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert json.loads(done.stdout) == [[chosen]]


@given(st.sets(st.integers(0, 300), min_size=1))
def test_ranges_name_the_numbers_and_no_others(numbers: set[int]) -> None:
    text = ranges(list(numbers))
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    named = [number for part in ends for number in range(part[0], part[-1] + 1)]
    assert named == sorted(numbers)
    # As short as can be: no two ranges touch.
    assert all(right[0] > left[-1] + 1 for left, right in itertools.pairwise(ends))


def test_of_many_ranks_the_first_and_the_last_are_described() -> None:
    assert describe_cores([[0, 1], [2, 3]]) == "rank 0: 0-1; rank 1: 2-3"
    text = describe_cores([[rank] for rank in range(64)])
    assert text.startswith("rank 0: 0; rank 1: 1; ")
    assert text.endswith("; ...; rank 63: 63")
    assert text.count("rank") == 8


def test_the_size_of_a_job_is_told_in_numbers_and_nouns() -> None:
    assert size(1, 4) == "1 rank x 4 threads"
    assert size(2, 1) == "2 ranks x 1 thread"
