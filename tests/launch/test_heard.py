"""Waiting for a launcher to read the last words of a rank."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from seqbraid.launching.heard import wait_until_heard


def test_it_waits_until_the_pipe_is_empty() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"last words")
    waiting = threading.Thread(target=wait_until_heard, args=(writer,))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    os.read(reader, 100)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_reader_that_never_comes_does_not_hold_it_up() -> None:
    _, writer = os.pipe()
    os.write(writer, b"last words")
    waiting = threading.Thread(target=wait_until_heard, args=(writer,), daemon=True)
    waiting.start()
    waiting.join(30)
    assert not waiting.is_alive()


def test_what_is_no_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqbraid.launching.heard.time.sleep", lambda _: pytest.fail("it waits"))
    with (tmp_path / "log").open("wb") as log:
        log.write(b"last words")
        log.flush()
        wait_until_heard(log.fileno())
    wait_until_heard(10**6)  # nor is what is closed
