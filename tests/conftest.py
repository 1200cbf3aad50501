"""Tests that run on MPI ranks.

A test marked `on_ranks(1, 2, 4)` is called once for each of these numbers, on every rank, with `world`,
mpi4py's COMM_WORLD. The ranks are started once and kept. Its other arguments, from fixtures or
`parametrize`, are pickled to the ranks; the file is imported there, so it must not import mpi4py itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rank_server import World
from shared_ranks import RanksFailedError, RunMain, SharedRanks


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_ranks(P, ...): the test is called on each rank of jobs of P ranks")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("on_ranks")
    if marker is not None:
        metafunc.parametrize("world", marker.args, indirect=True, ids=lambda ranks: f"{ranks} ranks")


@pytest.fixture(scope="session")
def shared_ranks() -> Iterator[Callable[[int], SharedRanks]]:
    """Return a function that gives the job of so many ranks."""
    jobs: dict[int, SharedRanks] = {}
    yield lambda ranks: jobs.setdefault(ranks, SharedRanks(ranks))
    for job in jobs.values():
        job.stop()


@pytest.fixture(scope="session")
def run_main(shared_ranks: Callable[[int], SharedRanks]) -> RunMain:
    """Return a function that runs `seqbraid WORDS...` on so many ranks: `run_main(2, "info")`."""
    return lambda ranks, *words, **variables: shared_ranks(ranks).main(*words, **variables)


@pytest.fixture
def world(request: pytest.FixtureRequest, shared_ranks: Callable[[int], SharedRanks]) -> SharedRanks:
    return shared_ranks(request.param)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Call a test on the ranks."""
    if pyfuncitem.get_closest_marker("on_ranks") is None:
        return None
    function = pyfuncitem.function
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    ranks = arguments.pop("world")
    try:
        ranks.call(
            function,
            module=function.__module__,
            file=str(pyfuncitem.path),
            **arguments,
            world=World(),
        )
    except RanksFailedError as error:
        pytest.fail(str(error), pytrace=False)
    return True
