"""Errors of jobs with several ranks: once, in one line, with the rank where it matters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from launching import run_ranks

from seqbraid.cli.main import main

WriteArrays = Callable[..., Path]
COMMAND = ("-m", "seqbraid.cli.main")


def test_ranks_that_all_fail_say_so_once(write_arrays: WriteArrays, tmp_path: Path) -> None:
    data = write_arrays(steps=2)
    done = run_ranks(3, *COMMAND, "train", str(data), "--output", str(tmp_path / "run"), timeout=60)
    assert done.returncode == 2
    complaints = [line for line in done.stderr.splitlines() if "error:" in line]
    assert complaints == [
        "seqbraid train: error: 3 ranks were started for sequences of 2 steps; start at most 2 ranks"
    ]
    assert "Traceback" not in done.stderr


def test_what_rank_0_alone_can_see_ends_all_ranks(trained: tuple[Path, Path]) -> None:
    run, data = trained
    done = run_ranks(2, *COMMAND, "train", str(data), "--output", str(run), timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "holds a run already" in done.stderr


def test_options_are_refused_once_for_all_ranks() -> None:
    done = run_ranks(2, *COMMAND, "train", "data", "--lr", "0", "--output", "run", timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "'0' is not a positive number" in done.stderr


def test_one_rank_that_fails_ends_the_job_and_says_which(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from seqbraid.cli import info, main\n"
        "from seqbraid.comm import world\n"
        "from seqbraid.errors import DataError\n"
        "def run(options):\n"
        "    communicator = world()\n"
        "    if communicator.rank == 1:\n"
        "        raise DataError('clip 7 is damaged')\n"
        "    communicator.barrier('waiting for rank 1')\n"
        "info.run = run\n"
        "sys.exit(main.main(['info']))\n"
    )
    done = run_ranks(3, str(program), timeout=60)
    assert done.returncode != 0
    assert "rank 1: seqbraid info: error: clip 7 is damaged" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_help_comes_from_rank_0_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(SystemExit) as leaving:
        main(["train", "--help"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PMI_RANK", "0")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "example" in capsys.readouterr().out
