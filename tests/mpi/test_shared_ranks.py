"""The ranks that tests share: calls do not disturb one another, and a failure names its rank."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_ranks as sharing
import torch
from rank_server import World
from shared_ranks import RanksFailedError, SharedRanks


def state_and_disturbance(world: Any) -> list[Any]:
    """Return what a call may depend on, and then change all of it."""
    found = [
        torch.rand(1).item(),
        np.random.random(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        sorted(name for name in os.environ if name.startswith("SEQBRAID_")),
        Path.cwd(),
        sys.argv[:],
        len(warnings.filters),
    ]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(3)
    torch.set_grad_enabled(False)
    os.environ["SEQBRAID_DISTURBED"] = "1"
    os.chdir("/")
    sys.argv.append("disturbed")
    warnings.simplefilter("ignore")
    print(f"out {world.rank}")
    os.write(2, f"err {world.rank}\n".encode())
    return found


def raise_on_rank_1(world: Any) -> None:
    if world.rank == 1:
        raise KeyError("the lost key")
    world.Barrier()


def leave_on_rank_0(world: Any) -> None:
    print("last words", flush=True)
    if world.rank == 0:
        os._exit(5)
    world.Barrier()


def wait_for_ever(world: Any) -> None:
    world.recv(source=world.rank)


@pytest.fixture(scope="module")
def pair() -> Iterator[SharedRanks]:
    pair = SharedRanks(2)
    yield pair
    pair.stop()


@pytest.fixture
def call(pair: SharedRanks, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(sharing, "GRACE_S", 0.5)
    return lambda function: pair.call(function, World(), module=__name__, file=__file__)


def test_a_call_finds_nothing_of_the_one_before(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQBRAID_KERNELS", "plain")
    monkeypatch.chdir(tmp_path)
    first, second = call(state_and_disturbance), call(state_and_disturbance)
    assert [answer.value for answer in first] == [answer.value for answer in second]
    assert first[0].value[5:7] == [["SEQBRAID_KERNELS"], tmp_path]
    assert first[0].value[0] != first[1].value[0]
    for rank, answer in enumerate(second):
        assert (answer.stdout, answer.stderr) == (f"out {rank}\n", f"err {rank}\n")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            raise_on_rank_1,
            ("rank 1 of 2: Traceback", "the lost key", "rank 0 of 2: was not done", "in raise_on_rank_1"),
        ),
        (leave_on_rank_0, ("rank 0 of 2: ended", "rank 1 of 2", "last words")),
        (wait_for_ever, ("rank 0 of 2: was not done", "rank 1 of 2: was not done", "in wait_for_ever")),
    ],
)
def test_a_failure_is_told_with_its_rank_and_the_next_call_goes_well(
    function: Callable[..., Any],
    told: tuple[str, ...],
    call: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if function is wait_for_ever:
        monkeypatch.setattr(sharing, "CALL_S", 1.0)
    with pytest.raises(RanksFailedError) as failure:
        call(function)
    for text in told:
        assert text in str(failure.value)
    monkeypatch.undo()
    assert len(call(rank_of)) == 2


def test_ranks_that_do_not_start_tell_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit('no such library')")
    monkeypatch.setattr(sharing, "SERVER", program)
    with pytest.raises(RanksFailedError, match=r"(?s)1 ranks did not start:\nmpiexec:\n.*no such library"):
        SharedRanks(1).call(rank_of, World())


def rank_of(world: Any) -> int:
    rank: int = world.rank
    return rank


@pytest.mark.on_ranks(2)
@pytest.mark.parametrize("number", [3])
def test_a_test_on_ranks_gets_its_arguments(number: int, tmp_path: Path, world: Any) -> None:
    assert world.size == 2
    assert world.allgather((number, str(tmp_path))) == [(3, str(tmp_path))] * 2
