"""The names a person imports are there, and come without what they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

import seqbraid


def test_every_public_name_is_there_and_listed() -> None:
    for name in seqbraid.__all__:
        assert getattr(seqbraid, name).__name__ == name
    assert set(seqbraid.__all__) <= set(dir(seqbraid))
    with pytest.raises(AttributeError, match="no attribute 'LSTM'"):
        seqbraid.LSTM  # noqa: B018


def test_names_are_imported_when_they_are_used() -> None:
    script = """
import sys, seqbraid, seqbraid.errors
assert "torch" not in sys.modules
from seqbraid import GRU, MGRIT
assert "torch" in sys.modules and GRU.__module__.startswith("seqbraid.rnn")
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
