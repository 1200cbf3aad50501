import sys
from importlib import metadata

import pytest

from seqbraid.cli.main import main
from seqbraid.kernels import dispatch


@pytest.fixture
def rows(capsys, monkeypatch):
    """Return a function that runs `seqbraid info` and returns its rows by name."""
    monkeypatch.delenv("SEQBRAID_KERNELS", raising=False)

    def run():
        assert main(["info"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return dict((part.strip() for part in line.split("  ", 1)) for line in lines)

    return run


def kernels(rows):
    return [rows()[f"kernels, {dtype}"] for dtype in ("float32", "float64")]


def test_info_tells_the_active_kernels_and_who_compiled_them(rows):
    expected = f"fused on the CPU, compiled by Numba {metadata.version('numba')}"
    assert kernels(rows) == [expected, expected]


def test_info_tells_why_plain_kernels_serve(rows, monkeypatch):
    monkeypatch.setenv("SEQBRAID_KERNELS", "plain")
    for text in kernels(rows):
        assert text == "plain, in PyTorch's own operations: SEQBRAID_KERNELS asks for them"
    monkeypatch.delenv("SEQBRAID_KERNELS")
    monkeypatch.setitem(sys.modules, "numba", None)
    dispatch._why_not_compiled.cache_clear()
    try:
        for text in kernels(rows):
            assert text.startswith("plain, in PyTorch's own operations: Numba cannot be imported")
            assert text.endswith("pip install numba")
    finally:
        dispatch._why_not_compiled.cache_clear()


def test_a_wish_that_is_no_kernel_is_one_clear_line(capsys, monkeypatch):
    monkeypatch.setenv("SEQBRAID_KERNELS", "fast")
    assert main(["info"]) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        "seqbraid info: error: SEQBRAID_KERNELS is 'fast'; expected one of ('fused', 'plain'), or nothing\n"
    )
    assert not shown.out
