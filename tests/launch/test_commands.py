"""The command lines as values: no cluster is needed to see what would be run."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqbraid.errors import OptionsError
from seqbraid.launching.commands import Host, Job, command_line, parse_hosts, variables
from seqbraid.launching.launchers import Launcher, python

MPICH = Launcher("MPICH", "5.0.2", "/mpich/bin/mpiexec")
OPEN_MPI_4 = Launcher("Open MPI", "4.1.4", "/ompi4/bin/mpiexec")
OPEN_MPI_5 = Launcher("Open MPI", "5.0.11", "/ompi5/bin/mpiexec")
SRUN = Launcher("Slurm", "22.05.8", "/usr/bin/srun")

COMMAND = ("python", "script.py", "--option", "a b")
JOB = Job(4, 2, COMMAND)
ON_TWO_HOSTS = Job(4, 2, COMMAND, [Host("a", 2), Host("b", 2)], tell=True)
RANK = [*python(), "-m", "seqbraid.launching.rank"]


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        (MPICH, ["/mpich/bin/mpiexec", "-bind-to", "none", "-n", "4"]),
        (
            OPEN_MPI_4,
            ["/ompi4/bin/mpiexec", "-n", "4", "--bind-to", "none", "--map-by", "slot", "--oversubscribe"],
        ),
        (
            OPEN_MPI_5,
            ["/ompi5/bin/mpiexec", "-n", "4", "--bind-to", "none", "--map-by", "slot:OVERSUBSCRIBE"],
        ),
    ],
)
def test_mpiexec_leaves_pinning_to_the_ranks(launcher: Launcher, expected: list[str]) -> None:
    words = command_line(launcher, JOB)
    # What Open MPI hands on stands for signals that it does not.
    tied = ["--tied"] if launcher is MPICH else ["--tied", "--carried"]
    assert words == [*expected, *RANK, *tied, "--pin", "2", "--", *COMMAND]
    free = command_line(launcher, Job(4, 2, COMMAND, pin=False, tell=True))
    assert free == [*expected, *RANK, *tied, "--", *COMMAND]


def test_open_mpi_is_told_that_root_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for launcher in (OPEN_MPI_4, OPEN_MPI_5):
        assert "--allow-run-as-root" in command_line(launcher, JOB)
    assert "--allow-run-as-root" not in command_line(MPICH, JOB)


def test_hosts_for_mpich() -> None:
    words = command_line(MPICH, ON_TWO_HOSTS)
    start = ["/mpich/bin/mpiexec", "-hosts", "a:2,b:2", "-bind-to", "none", "-n", "4"]
    assert words == [*start, *RANK, "--tied", "--pin", "2", "--tell", "--", *COMMAND]


@pytest.mark.parametrize("launcher", [OPEN_MPI_4, OPEN_MPI_5])
def test_hosts_for_open_mpi_which_passes_on_variables_that_are_set(launcher: Launcher) -> None:
    environment = {"PATH": "/bin", "HOME": "/root", "SEQBRAID_TIME_LIMIT": "9", "PYTHONPATH": "/x"}
    words = command_line(launcher, ON_TWO_HOSTS, environment=environment)
    assert words[words.index("--host") + 1] == "a:2,b:2"
    assert words[words.index("--map-by") + 1] == "slot"
    passed_on = [word for place, word in enumerate(words) if words[place - 1] == "-x"]
    assert passed_on == [*variables(JOB), "PATH", "SEQBRAID_TIME_LIMIT", "PYTHONPATH"]
    assert words[-9:] == [*RANK, "--tied", "--carried", "--pin", "2", "--tell", "--", *COMMAND][-9:]


def test_srun_pins_and_ends_the_job_with_its_first_failure() -> None:
    start = ["/usr/bin/srun", "-n", "4", "--cpus-per-task=2"]
    rest = ["--export=ALL", "--kill-on-bad-exit=1"]
    end = [*RANK, "--", *COMMAND]
    assert command_line(SRUN, JOB) == [*start, "--cpu-bind=cores", *rest, *end]
    words = command_line(SRUN, Job(4, 2, COMMAND, pin=False), "pmi2")
    assert words == [*start, "--cpu-bind=none", *rest, "--mpi=pmi2", *end]


def test_hosts_for_srun_must_have_equally_many_ranks() -> None:
    words = command_line(SRUN, ON_TWO_HOSTS)
    assert {"--nodes=2", "--nodelist=a,b", "--ntasks-per-node=2"} < set(words)
    with pytest.raises(OptionsError, match="as many ranks on every host, not a:3,b:1"):
        command_line(SRUN, Job(4, 2, COMMAND, [Host("a", 3), Host("b", 1)]))


def test_every_library_is_told_the_same_number_of_threads() -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert variables(JOB) == dict.fromkeys(names, "2")


@given(st.integers(1, 9), st.integers(0, 50))
def test_ranks_are_divided_equally_over_hosts(hosts: int, more: int) -> None:
    names = [f"node{index}" for index in range(hosts)]
    divided = parse_hosts(",".join(names), hosts + more)
    assert [host.name for host in divided] == names
    counts = [host.ranks for host in divided]
    assert sum(counts) == hosts + more
    assert max(counts) - min(counts) <= 1


def test_ranks_are_divided_as_asked() -> None:
    assert parse_hosts("a:3, b.example.org:1", 4) == [Host("a", 3), Host("b.example.org", 1)]


@pytest.mark.parametrize(
    ("text", "ranks", "message"),
    [
        ("a,,b", 4, "`hosts` has ''; expected HOST or HOST:RANKS"),
        ("a:0", 4, "`hosts` has 'a:0'"),
        ("a:x,b:1", 4, "`hosts` has 'a:x'"),
        ("a b", 4, "`hosts` has 'a b'"),
        ("a,a", 4, "names a host twice"),
        ("a:2,b", 4, "with every host, or with none"),
        ("a,b,c", 2, "names 3 hosts for 2 ranks; name at most 2"),
        ("a:2,b:1", 4, "has places for 3 ranks, and `ranks` is 4"),
        ("a:4,b:4", 4, "has places for 8 ranks, and `ranks` is 4"),
    ],
)
def test_hosts_that_do_not_fit_are_refused(text: str, ranks: int, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        parse_hosts(text, ranks)
