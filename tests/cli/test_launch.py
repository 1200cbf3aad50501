from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from launching import ROOT

from seqbraid.cli.main import build_parser, main
from seqbraid.installation import describe_pinning
from seqbraid.launching import planning
from seqbraid.launching.cores import affinity
from seqbraid.launching.launchers import Launcher, Library

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ALLOCATIONS = ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_MCPU_HOSTS", "PE_HOSTFILE", "SLURM_STEP_NUM_TASKS")

RUN = ("-m", "seqbraid.launching.script")

needs_two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(affinity()) < 2, reason="needs two cores and affinity"
)

# Says where it runs, in a file of its own: output of several ranks may be mixed.
SCRIPT = f"""
import json, os, sys
from pathlib import Path
from mpi4py import MPI
rank = MPI.COMM_WORLD.Get_rank()
told = {{name: os.environ.get(name) for name in {THREADS}}}
told.update(arguments=sys.argv[1:], cores=sorted(os.sched_getaffinity(0)), size=MPI.COMM_WORLD.Get_size())
Path(f"told.{{rank}}").write_text(json.dumps(told))
MPI.COMM_WORLD.Barrier()
if rank == 1 and "fail" in sys.argv:
    sys.exit(7)
MPI.COMM_WORLD.Barrier()
"""

WAITING = """
import os, time
from pathlib import Path
from mpi4py import MPI
rank = MPI.COMM_WORLD.Get_rank()
Path(f"new.{rank}").write_text(str(os.getpid()))
os.replace(f"new.{rank}", f"pid.{rank}")
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests independent of where they run, and of the thread settings there."""
    for name in (*THREADS, *ALLOCATIONS):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mpich(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """Let the MPI be an MPICH, without looking for one."""
    mpiexec = Launcher("MPICH", "5.0.2", "/mpich/bin/mpiexec")
    monkeypatch.setattr(planning, "loaded_library", lambda: Library("MPICH", "5.0.2", None))
    monkeypatch.setattr(planning, "find_mpiexec", lambda _: mpiexec)
    return mpiexec


@pytest.fixture
def cores(mpich: Launcher, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Let the machine have four cores, 4 to 7."""
    four = [(number,) for number in range(4, 8)]
    monkeypatch.setattr(planning, "usable_cores", lambda: four)
    return four


def start(*arguments: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "seqbraid.cli.main", "launch", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run_launch(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    with start(*arguments, folder=folder, **variables) as process:
        output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, str], list[str], str]:
    """Return variables and words of the command line that launch prints, and what it says on the layout."""
    capsys.readouterr()
    assert main(["launch", "--dry-run", *arguments]) == 0
    said = capsys.readouterr()
    [line] = said.out.splitlines()
    words = shlex.split(line)
    settings = [word for word in words if word.split("=")[0] in THREADS]
    assert words[: len(settings)] == settings
    return dict(word.split("=") for word in settings), words[len(settings) :], said.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["launch", "--dry-run", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("seqbraid launch: error: ")
    return lines[-1]


def test_a_dry_run_shows_layout_and_command_and_starts_nothing(
    capsys: pytest.CaptureFixture[str], cores: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "start", lambda *_: pytest.fail("something was started"))
    settings, words, layout = dry_run(
        capsys, "-n", "2", "--threads", "2", "--", "train", "a b/", "--output", "r"
    )
    assert settings == dict.fromkeys(THREADS, "2")
    assert words[words.index("-n") + 1] == "2"
    assert words[-6:] == ["-m", "seqbraid.cli.main", "train", "a b/", "--output", "r"]
    assert "2 ranks x 2 threads on this machine" in layout
    assert "(4 cores to use)" in layout
    assert "cores of rank 0: 4-5; rank 1: 6-7" in layout
    assert f"started by {words[0]}" in layout
    assert "warning" not in layout


def test_without_threads_the_ranks_share_the_cores(
    capsys: pytest.CaptureFixture[str], cores: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for ranks, threads in (("1", "4"), ("3", "1"), ("9", "1")):
        assert dry_run(capsys, "-n", ranks, "info")[0] == dict.fromkeys(THREADS, threads)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert dry_run(capsys, "-n", "1", "info")[0] == dict.fromkeys(THREADS, "3")


def test_more_threads_than_cores_are_warned_of_once_and_not_pinned(
    capsys: pytest.CaptureFixture[str], cores: list[tuple[int, ...]]
) -> None:
    _, words, layout = dry_run(capsys, "-n", "2", "--threads", "3", "--", "info")
    [warning] = [line for line in layout.splitlines() if "warning" in line]
    assert "2 ranks x 3 threads outnumber the 4 cores" in warning
    assert "take --threads 2" in warning
    assert "--pin" not in words
    _, words, layout = dry_run(capsys, "-n", "5", "--threads", "1", "--", "info")
    assert "5 ranks x 1 thread outnumber the 4 cores" in layout
    assert "take -n 4" in layout
    _, words, layout = dry_run(capsys, "-n", "4", "--threads", "1", "--", "info")
    assert "warning" not in layout
    assert "--pin" in words


def test_ranks_can_be_left_unpinned(capsys: pytest.CaptureFixture[str], cores: list[tuple[int, ...]]) -> None:
    _, words, layout = dry_run(capsys, "-n", "2", "--no-pin", "--", "info")
    assert "--pin" not in words
    assert "not pinned" in layout


def test_threads_go_before_the_environment_which_is_said_once(
    capsys: pytest.CaptureFixture[str], cores: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "8")
    settings, _, layout = dry_run(capsys, "-n", "2", "--threads", "1", "--", "info")
    assert settings == dict.fromkeys(THREADS, "1")
    assert layout.count("instead of OMP_NUM_THREADS=2, MKL_NUM_THREADS=8 in the environment") == 1
    _, _, layout = dry_run(capsys, "-n", "2", "--threads", "8", "--", "info")
    assert "--threads 8 for every rank, instead of OMP_NUM_THREADS=2 in the environment" in layout
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "instead of" not in dry_run(capsys, "-n", "2", "--threads", "8", "--", "info")[2]


def test_other_machines_say_their_cores_themselves(
    mpich: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    _, words, layout = dry_run(
        capsys, "-n", "4", "--threads", "8", "--hosts", "nodea:3,nodeb:1", "--", "info"
    )
    assert "4 ranks x 8 threads on nodea (3 ranks), nodeb (1 rank)" in layout
    assert "warning" not in layout
    assert "nodea:3,nodeb:1" in words
    assert words[words.index("--pin") + 1] == "8"
    assert "--tell" in words


def test_within_an_allocation_of_another_manager_threads_must_be_given(
    mpich: Launcher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_NODEFILE", "/nodes")
    assert "PBS puts on a machine is not known here; give --threads N" in refused(capsys, "-n", "4", "info")
    _, words, layout = dry_run(capsys, "-n", "4", "--threads", "2", "info")
    assert "where PBS puts them" in layout
    assert "--tell" in words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["info"], ["-m", "seqbraid.cli.main", "info"]),
        (["seqbraid", "info"], ["-m", "seqbraid.cli.main", "info"]),
        (["script.py", "--threads", "3"], [*RUN, "script.py", "--threads", "3"]),
        (["python", "script.py", "-n", "1"], [*RUN, "script.py", "-n", "1"]),
        (["python3.11", "-u", "script.py"], ["-u", *RUN, "script.py"]),
        (["python", "-W", "error", "-m", "module"], ["-W", "error", *RUN, "-m", "module"]),
        (["python", "-m", "mpi4py", "script.py"], ["-m", "mpi4py", "script.py"]),
        (["python", "-c", "pass", "--", "x"], [*RUN, "-c", "pass", "--", "x"]),
    ],
)
def test_scripts_run_so_that_a_failing_rank_ends_the_job(
    words: list[str],
    expected: list[str],
    mpich: Launcher,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "script.py").touch()
    monkeypatch.chdir(tmp_path)
    _, line, _ = dry_run(capsys, "-n", "1", "--", *words)
    assert line[-len(expected) :] == expected
    assert sys.executable in line[-len(expected) - 2 :]


def test_another_interpreter_is_taken_where_its_path_is_given(
    mpich: Launcher, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "script.py").touch()
    _, words, _ = dry_run(capsys, "-n", "1", "--", "/opt/python/bin/python3", str(tmp_path / "script.py"))
    assert words[-4:] == ["/opt/python/bin/python3", "-m", "mpi4py", str(tmp_path / "script.py")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "2"], "'' is nothing to launch; expected one of preprocess, train,"),
        (["-n", "2", "--"], "'' is nothing to launch"),
        (["-n", "2", "--", "trian", "x"], "'trian' is nothing to launch; expected one of"),
        (["-n", "2", "--", "launch", "-n", "2"], "'launch' is nothing to launch"),
        (["-n", "2", "--", "absent.py"], "there is no script absent.py in"),
        (["-n", "2", "--", "python", "absent.py"], "there is no script absent.py in"),
        (["-n", "2", "--", "python"], "python needs a script, -m MODULE or -c TEXT"),
        (
            ["-n", "2", "--", "train", "x", "--threads", "3"],
            "train has --threads of its own; give it to launch",
        ),
        (["-n", "2", "--", "train", "x", "--threads=3"], "train has --threads of its own"),
        (["-n", "2", "--hosts", "a:1", "--", "info"], "has places for 1 ranks, and -n is 2"),
        (["-n", "2", "--launcher", "absent-mpiexec", "--", "info"], "--launcher absent-mpiexec: there is no"),
        (["-n", "2", "--launcher", "/bin/sh", "--", "info"], "--launcher /bin/sh is neither MPICH's"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_line(
    arguments: list[str], message: str, mpich: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *arguments)


def test_the_number_of_ranks_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["launch", "--", "info"])
    assert leaving.value.code == 2
    assert "required: -n" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_launch_within_a_launched_job_is_an_error(
    variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "4")
    assert "one of 4 ranks already; start launch without mpiexec or srun" in refused(
        capsys, "-n", "2", "info"
    )


def test_a_launcher_of_another_mpi_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "mpiexec"
    other.write_text("#!/bin/sh\necho 'mpiexec (Open MPI) 5.0.11'\n")
    other.chmod(0o755)
    monkeypatch.setattr(planning, "loaded_library", lambda: Library("MPICH", "5.0.2", None))
    message = refused(capsys, "-n", "2", "--launcher", str(other), "--", "info")
    assert "is of Open MPI, and mpi4py loads MPICH 5.0.2" in message


def test_the_commands_to_launch_are_all_but_launch_itself() -> None:
    [subparsers] = [
        action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    assert {*planning._COMMANDS, "launch"} == set(subparsers.choices)


@needs_two_cores
def test_info_shows_ranks_on_cores_of_their_own(tmp_path: Path) -> None:
    done = run_launch("-n", "2", "--threads", "1", "--", "info", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert rows["threads a rank"].strip() == "1"
    assert rows["pinning"].strip() == "each rank has cores of its own"
    told = [rows[f"rank {rank}"].rpartition(", core ") for rank in range(2)]
    assert all(", 1 thread" in text for text, _, _ in told)
    assert {int(core) for _, _, core in told} <= set(affinity())
    assert told[0][2] != told[1][2]


@needs_two_cores
def test_a_script_gets_its_arguments_threads_and_cores(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run_launch(
        "-n",
        "2",
        "--threads",
        "1",
        "--",
        "python",
        "script.py",
        "a b",
        "--x",
        folder=tmp_path,
        OMP_NUM_THREADS="5",
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads((tmp_path / f"told.{rank}").read_text()) for rank in range(2)]
    for rank in told:
        assert {name: rank[name] for name in THREADS} == dict.fromkeys(THREADS, "1")
        assert rank["arguments"] == ["a b", "--x"]
        assert rank["size"] == 2
        assert len(rank["cores"]) == 1
        assert set(rank["cores"]) <= set(affinity())
    assert told[0]["cores"] != told[1]["cores"]


def test_the_exit_code_is_that_of_the_failing_rank(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run_launch("-n", "2", "--threads", "1", "--", "script.py", "fail", folder=tmp_path)
    assert done.returncode == 7


def test_the_line_of_a_dry_run_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    shown = run_launch("-n", "2", "--dry-run", "--", "script.py", "it's", folder=tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(shown.stdout, shell=True, cwd=tmp_path, env=environment, check=True, capture_output=True)
    told = [json.loads((tmp_path / f"told.{rank}").read_text()) for rank in range(2)]
    assert [rank["arguments"] for rank in told] == [["it's"], ["it's"]]


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_a_launch_that_is_told_to_end(tmp_path: Path, sent: signal.Signals) -> None:
    (tmp_path / "script.py").write_text(WAITING)
    with start("-n", "2", "--threads", "1", "--", "script.py", folder=tmp_path) as process:
        files = [tmp_path / f"pid.{rank}" for rank in range(2)]
        while not all(path.exists() for path in files):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        pids = [int(path.read_text()) for path in files]
        assert all(map(running, pids))
        process.send_signal(sent)
        process.communicate(timeout=30)
    assert process.returncode != 0
    # The ranks of a killed launcher end a moment after it.
    end = time.monotonic() + 15
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(running, pids))


FAKE_SRUN = """#!/bin/sh
case "$1" in
    --version) echo "slurm 23.11.4"; exit ;;
    --mpi=list) printf 'MPI plugin types are...\\n\\tnone\\n\\tpmi2\\n'; exit ;;
esac
printf '%s\\n' "$@" > "$FAKE_SRUN_WORDS"
env | grep NUM_THREADS > "$FAKE_SRUN_WORDS.environment"
while [ "$1" != "-m" ]; do command="$1"; [ "$1" = -P ] && command="$before -P"; before="$1"; shift; done
exec $command "$@"
"""


@pytest.fixture
def srun(tmp_path: Path, mpich: Launcher, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an srun on PATH that writes down its words and runs the command once, in a job of 2 nodes."""
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()
    program.write_text(FAKE_SRUN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SRUN_WORDS", str(tmp_path / "words"))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_CPUS_PER_NODE", "8(x2)")
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_MPI_TYPE", raising=False)
    return program


def test_within_an_allocation_srun_starts_and_pins_the_ranks(
    srun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, words, layout = dry_run(capsys, "-n", "4", "--threads", "3", "--", "info")
    assert settings == dict.fromkeys(THREADS, "3")
    assert words[:4] == [str(srun), "-n", "4", "--cpus-per-task=3"]
    assert {"--cpu-bind=cores", "--kill-on-bad-exit=1", "--mpi=pmi2"} < set(words)
    assert "4 ranks x 3 threads in Slurm job 17 (CPUs of its nodes: 8(x2))" in layout
    assert "Slurm pins each rank" in layout
    assert "warning" not in layout
    _, words, layout = dry_run(capsys, "-n", "4", "--hosts", "n1,n2", "--", "info")
    assert {"--nodelist=n1,n2", "--ntasks-per-node=2"} < set(words)
    assert "on n1 (2 ranks), n2 (2 ranks) in Slurm job 17" in layout


def test_slurm_s_own_numbers_are_the_defaults(
    srun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dry_run(capsys, "-n", "4", "info")[0] == dict.fromkeys(THREADS, "4")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert dry_run(capsys, "-n", "4", "info")[0] == dict.fromkeys(THREADS, "2")
    layout = dry_run(capsys, "-n", "4", "--threads", "5", "info")[2]
    assert "warning: 4 ranks x 5 threads outnumber the 16 CPUs of the job" in layout
    monkeypatch.setenv("SLURM_MPI_TYPE", "cray_shasta")
    assert not [word for word in dry_run(capsys, "-n", "4", "info")[1] if word.startswith("--mpi")]


def test_srun_that_cannot_connect_open_mpi_is_refused(
    srun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "loaded_library", lambda: Library("Open MPI", "5.0.11", None))
    message = refused(capsys, "-n", "4", "info")
    assert "has no pmix, without which srun cannot connect the ranks of Open MPI" in message
    assert "--launcher mpiexec" in message


def test_mpiexec_can_be_asked_for_within_an_allocation(
    srun: Path, mpich: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    _, words, layout = dry_run(capsys, "-n", "4", "--threads", "2", "--launcher", "mpiexec", "info")
    assert words[0] == mpich.path
    assert "where Slurm puts them" in layout


def test_srun_outside_an_allocation_is_refused(
    srun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    message = refused(capsys, "-n", "2", "--launcher", "srun", "info")
    assert "works inside an allocation; use sbatch or salloc first" in message


def test_srun_is_started_with_the_words_of_the_dry_run(
    srun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("-n", "2", "--threads", "2", "--", "info", "--help")
    done = run_launch(*arguments, folder=tmp_path, PMI_RANK="0")
    assert done.returncode == 0, done.stderr
    assert "usage: seqbraid info" in done.stdout
    _, shown, _ = dry_run(capsys, *arguments)
    words = [str(srun), *(tmp_path / "words").read_text().splitlines()]
    # How the two processes look for modules may differ.
    assert [word for word in words if word != "-P"] == [word for word in shown if word != "-P"]
    environment = (tmp_path / "words.environment").read_text().splitlines()
    assert set(environment) >= {f"{name}=2" for name in THREADS}


def test_info_tells_pinned_ranks_from_ranks_that_share_cores() -> None:
    apart = [("a", 2, [0, 1]), ("a", 1, [2]), ("b", 2, [0, 1, 5])]
    assert describe_pinning(apart) == [
        ("cores", "3 on a, 3 on b"),
        ("pinning", "each rank has cores of its own"),
        ("rank 0", "a, 2 threads, cores 0-1"),
        ("rank 1", "a, 1 thread, core 2"),
        ("rank 2", "b, 2 threads, cores 0-1,5"),
    ]
    together = [("a", 2, [0, 1]), ("a", 2, [1, 2])]
    assert describe_pinning(together)[:2] == [("cores", "3 on a"), ("pinning", "none: ranks share cores")]


def test_info_of_one_rank_tells_whether_it_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert describe_pinning([("a", 2, [0, 1, 2, 3])]) == [("cores", "4 on a"), ("pinning", "none")]
    assert describe_pinning([("a", 2, [2, 3])]) == [("cores", "2 on a"), ("pinning", "to cores 2-3")]


@pytest.mark.parametrize("name", ["one_node", "several_nodes"])
def test_job_files_are_sound_and_their_options_come_first(name: str) -> None:
    path = ROOT / "scripts" / "slurm" / f"{name}.sbatch"
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    first = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    # Slurm reads no option below the first command.
    assert [line for line in lines[:first] if line.startswith("#SBATCH")]
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")]
