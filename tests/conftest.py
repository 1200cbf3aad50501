"""Tests that run on MPI ranks.

A test marked `on_ranks(1, 2, 4)` is called once for each of these numbers, on every rank, with `world`,
mpi4py's COMM_WORLD. The ranks are started once and kept. Its other arguments, from fixtures or
`parametrize`, are pickled to the ranks; the file is imported there, so it must not import mpi4py itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from rank_server import World
from shared_ranks import RanksFailedError, RunMain, SharedRanks

# Folders of tests that start many jobs.
LONG = ("faults", "preprocess", "mpi", "cli")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_ranks(P, ...): the test is called on each rank of jobs of P ranks")
    # What shares the suite among processes starts with the largest number of tests, not with the longest.
    config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let a process have whole files, for their fixtures, and all tests on one number of ranks."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            of_ranks = re.search(r"\b(\d+ ranks)[\]-]", nodeid)
            return of_ranks[1] if of_ranks else nodeid.partition("::")[0]

    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the suite, begin with what takes long, so that none has it alone at the end."""
    if hasattr(config, "workerinput"):
        tests = Path(__file__).parent
        order = {name: number for number, name in enumerate(LONG, -len(LONG))}
        items.sort(key=lambda item: order.get(item.path.relative_to(tests).parts[0], 0))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("on_ranks")
    if marker is not None:
        metafunc.parametrize("world", marker.args, indirect=True, ids=lambda ranks: f"{ranks} ranks")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make output text that one process can send another: names of files need not be."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


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
