"""What rank 0 does for all: its result and its error reach every rank."""

from __future__ import annotations

import pytest

from seqbraid.comm import Communicator, SimulatedWorld, SingleProcess, on_rank_zero
from seqbraid.errors import DataError


def test_every_rank_gets_the_result_of_rank_0_which_alone_acts() -> None:
    acted = []

    def on_rank(comm: Communicator) -> list[int] | None:
        def act() -> list[int]:
            acted.append(comm.rank)
            return [7, comm.rank]

        return on_rank_zero(comm, act, "a test")

    assert SimulatedWorld(3).run(on_rank) == [[7, 0]] * 3
    assert acted == [0]
    assert on_rank_zero(SingleProcess(), lambda: None, "a test") is None


@pytest.mark.parametrize("error", [DataError("clip 7 is damaged"), OSError(28, "No space left")])
def test_an_error_of_rank_0_is_raised_on_every_rank(error: Exception) -> None:
    def act() -> None:
        raise error

    def on_rank(comm: Communicator) -> str:
        with pytest.raises(type(error)) as caught:
            on_rank_zero(comm, act, "a test")
        return str(caught.value)

    assert SimulatedWorld(2).run(on_rank) == [str(error)] * 2
