"""What is kept on disk between starts, with kernels small enough to be compiled many times."""

import importlib
import shutil
import sys
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest

from seqbraid.kernels import jit

resource = pytest.importorskip("resource")

PART = """
from tinykernels.jit import compiled

@compiled
def scale(value):
    return value * {factor}
"""
WHOLE = """
from tinykernels.jit import Kernel
from tinykernels.part import scale

@Kernel
def scale_all(values):
    for i in range(len(values)):
        values[i] = scale(values[i])
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty folder for Numba's entries."""
    place(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that starts afresh with a kernel `values *= factor` and returns it."""
    folder = tmp_path / "tinykernels"
    folder.mkdir()
    shutil.copy(jit.__file__, folder / "jit.py")
    (folder / "__init__.py").touch()
    (folder / "whole.py").write_text(WHOLE)
    monkeypatch.syspath_prepend(tmp_path)

    def import_afresh(factor=2):
        (folder / "part.py").write_text(PART.format(factor=factor))
        forget()
        return importlib.import_module("tinykernels.whole").scale_all

    # Sources change within the resolution of the file system's clock.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield import_afresh
    forget()


def forget():
    for name in [name for name in sys.modules if name.split(".")[0] == "tinykernels"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def place(monkeypatch, folder):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))


def result(kernel, dtype=np.float32):
    values = np.ones(3, dtype)
    kernel(values)
    assert values.dtype == dtype
    return values.tolist()


def counts(kernel, dtype=np.float32):
    stats = kernel.dispatcher(dtype).stats
    return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


def entries(folder):
    return sorted(path.name for path in folder.rglob("*.nb?"))


def test_a_second_start_is_served_from_the_disk(start, cache):
    for hits, misses in ((0, 1), (1, 0), (1, 0)):
        kernel = start()
        for dtype in (np.float32, np.float64):
            assert result(kernel, dtype) == [2, 2, 2]
            assert counts(kernel, dtype) == (hits, misses)


def test_code_from_older_sources_is_not_taken_for_todays(start, cache):
    # Numba alone looks at the file of the kernel, not at those of its parts.
    for factor in (2, 3):
        assert result(start(factor)) == [factor] * 3
    # Going back to older sources finds their code again.
    kernel = start(2)
    assert result(kernel) == [2, 2, 2]
    assert counts(kernel) == (1, 0)


def test_no_entry_is_shared_by_different_code(start, cache, monkeypatch):
    # Processes that write different code into one entry at once could exchange it.
    kernel = start()
    result(kernel)
    of_float32 = set(entries(cache))
    result(kernel, np.float64)
    assert len(of_float32) == 2
    assert len(entries(cache)) == 4
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_name", lambda: "another")
    result(start())
    assert len(entries(cache)) == 6
    monkeypatch.setattr(numba, "__version__", "another")
    result(start())
    assert len(entries(cache)) == 8
    assert all(name.endswith((".nbi", ".1.nbc")) for name in entries(cache))


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"\0" * 1000, None], ids=["empty", "zeros", "half"])
def test_damaged_entries_are_no_obstacle(start, cache, ending, content):
    result(start())
    for path in cache.rglob(f"*.{ending}"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    for dtype in (np.float32, np.float64):
        assert result(start(), dtype) == [2, 2, 2]


def test_a_full_disk_is_no_obstacle(start, cache):
    kernel = start()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        found = result(kernel)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found == [2, 2, 2]
    assert not [path for path in cache.rglob("*.nbc") if path.stat().st_size]


def test_nowhere_to_write_is_no_obstacle(start, tmp_path, monkeypatch):
    # A file stands where each folder would be; permissions would not keep root out.
    (tmp_path / "file").touch()
    (tmp_path / "tinykernels" / "__pycache__").touch()
    place(monkeypatch, tmp_path / "file" / "cache")
    for variable in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "file"))
    kernel = start()
    assert result(kernel) == [2, 2, 2]
    assert not entries(tmp_path)


def test_what_a_kernel_raises_is_raised(start, cache):
    with pytest.raises(TypeError, match="too many arguments"):
        start()(np.ones(3), "one argument too many")
    with pytest.raises(KeyError):
        start()(np.ones(3, np.int64))


def test_all_sources_count(tmp_path, monkeypatch):
    folder = Path(jit.__file__).parent
    copy = tmp_path / "kernels"
    shutil.copytree(folder, copy)
    monkeypatch.setattr(jit, "__file__", str(copy / "jit.py"))
    states = {jit._state.__wrapped__()}
    assert states == {jit._state()}
    for path in sorted(copy.glob("*.py")):
        path.write_bytes(path.read_bytes() + b"\n")
        states.add(jit._state.__wrapped__())
    assert len(states) == 1 + len(list(folder.glob("*.py")))
