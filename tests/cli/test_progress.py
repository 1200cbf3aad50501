from __future__ import annotations

import io
import sys

import pytest

from seqbraid import progress
from seqbraid.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress_bar(30, "extracting", "clip") as bar:
        for done in range(1, 7):
            bar.update(done)  # a call every four seconds
            bar.set_postfix(loss="0.25", refresh=False)
        bar.update(0)
        assert bar.n == 21
    said = capsys.readouterr()
    assert said.out == ""
    assert "\r" not in said.err
    assert said.err.splitlines() == [
        "extracting: 6/30 clips,  2.00s/clip, 00:48 left, loss 0.25",
        "extracting: 21/30 clips,  1.14s/clip, 00:10 left, loss 0.25",
    ]


def test_a_short_task_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, "extracting", "clip") as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_from_rank_0_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in (0, 1):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar(3, "extracting", "clip", rank) as bar:
            bar.update(3)
            bar.set_postfix(loss="0.25")
            assert rank == 1 or bar.n == 3
        assert ("extracting" in terminal.getvalue()) is (rank == 0)


def test_other_ranks_are_silent_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, "extracting", "clip", rank=1) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""
