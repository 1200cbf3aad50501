import os
import re
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from launching import ROOT, run_ranks

from seqbraid.cli.main import main
from seqbraid.data.store import FeatureStore
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


CLIPS = [f"{name}/{number:02}.avi" for name in ("hop", "spin") for number in range(10)]


def make_store(folder, lengths, **changes):
    """Return a store of 20 clips; of `lengths`, 0 is failed and -1 pending."""
    arguments = {
        "clips": CLIPS,
        "labels": [0] * 10 + [1] * 10,
        "splits": {"1": [1, 1, 2, 2, 0] * 4, "2": [2, 2, 1, 1, 1] * 4},
        "class_names": ["hop", "spin"],
        "frames": 50,
        "feature_size": 40,
        "options": {"backbone": "resnet18"},
    }
    store = FeatureStore.create(folder, **(arguments | changes))
    random = np.random.default_rng(0)
    for index, length in enumerate(lengths):
        if length > 0:
            store.write_clip(index, random.normal(size=(length, 40)))
        elif length == 0:
            store.mark_failed(index)
    return store


def rows_of(capsys, *arguments):
    """Return what `seqbraid info` says as [name, value] of each line."""
    capsys.readouterr()
    assert main(["info", *map(str, arguments)]) == 0
    return [[part.strip() for part in line.split("  ", 1)] for line in capsys.readouterr().out.splitlines()]


def test_info_of_a_store_tells_splits_type_source_and_what_is_missing(tmp_path, capsys):
    lengths = [5, 7, 0, 9, -1, 11, -1, 30, 8, 8] + [8] * 10
    store = make_store(tmp_path, lengths, source="/data/videos", dtype="float16", split="2")
    store.write_failures({CLIPS[2]: "the file is empty"})
    rows = rows_of(capsys, tmp_path)
    told = dict(rows)
    assert told["clips"] == "20 (10 train, 7 test, 0 unused, 1 failed, 2 pending)"
    assert told["split 1"] == "7 train, 7 test, 3 unused"
    assert told["split 2"] == "10 train, 7 test, 0 unused; the default"
    assert told["dtype"] == "float16"
    assert told["source"] == "/data/videos"
    assert told["true lengths"] == "5 to 30"
    assert told["failed"] == f"{CLIPS[2]}: the file is empty"
    assert told["pending"].startswith("2; the same `seqbraid preprocess` command")
    assert told["backbone"] == "resnet18"
    assert "subjects" not in told


def test_info_of_a_store_that_is_done_tells_of_nothing_missing(tmp_path, capsys):
    make_store(tmp_path, [50] * 20)
    told = dict(rows_of(capsys, tmp_path))
    assert told["source"] == "unknown"
    assert not told.keys() & {"failed", "pending", "subjects"}


def test_the_size_on_disk_is_that_of_the_blocks_in_use(tmp_path, capsys):
    make_store(tmp_path, [50] * 3, frames=100_000)
    (tmp_path / "store.json.new").write_bytes(bytes(2_000_000))
    told = dict(rows_of(capsys, tmp_path))
    used = subprocess.run(["du", "-s", "-B1", tmp_path / "features.npy"], capture_output=True, check=True)
    size, unit = told["size on disk"].split()
    # 24 kB of features in a file of 320 MB, with the small files beside it.
    assert int(used.stdout.split()[0]) <= float(size) * {"kB": 1e3, "MB": 1e6}[unit] < 1e6


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        # Train is 0, 1 of every five clips and test 2, 3 in split 1; 2, 3, 4 and 0, 1 in split 2.
        ([0, 1, 2, 3, 4] * 4, "5, of whom train and test share none in split 1, none in split 2"),
        (["a", "a", "a", "b", "b"] * 4, "2, of whom train and test share 1 in split 1, 1 in split 2"),
        ([*list(range(19)), 17], "19, of whom train and test share none in split 1, none in split 2"),
        ([*list(range(19)), 16], "19, of whom train and test share none in split 1, 1 in split 2"),
    ],
)
def test_info_tells_whether_train_and_test_share_subjects(tmp_path, capsys, subjects, expected):
    make_store(tmp_path, [8] * 20, subjects=subjects)
    assert dict(rows_of(capsys, tmp_path))["subjects"] == expected


def test_of_many_failed_clips_ten_are_listed(tmp_path, capsys):
    store = make_store(tmp_path, [0] * 13 + [8] * 7)
    store.write_failures({clip: f"reason {number}" for number, clip in enumerate(CLIPS[:12])})
    failed = [value for name, value in rows_of(capsys, tmp_path) if name == "failed"]
    assert failed == [f"{CLIPS[number]}: reason {number}" for number in range(10)] + ["and 3 more"]


def flip_a_byte(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_store_whose_clips_are_as_written_passes_the_check(tmp_path, capsys):
    make_store(tmp_path / "full", [8] * 20)
    assert main(["info", str(tmp_path / "full"), "--check"]) == 0
    assert capsys.readouterr().out == "all 20 clips match their checksums\n"
    store = make_store(tmp_path / "part", [8, 0, -1, 4, 5] * 4)
    # Past the true length nothing counts.
    flip_a_byte(store.folder / "features.npy", store.features.offset + 8 * 40 * 4)
    assert main(["info", str(store.folder), "--check"]) == 0
    assert capsys.readouterr().out == "all 12 clips match their checksums (4 failed, 4 pending)\n"


def test_a_flipped_byte_is_found_and_its_clip_named(tmp_path, capsys):
    store = make_store(tmp_path, [8, 0, -1, 4, 5] * 4)
    clip = 50 * 40 * 4
    flip_a_byte(tmp_path / "features.npy", store.features.offset + 3 * clip)
    flip_a_byte(tmp_path / "features.npy", store.features.offset + 19 * clip + 5 * 40 * 4 - 1)
    assert main(["info", str(tmp_path), "--check"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines() == [CLIPS[3], CLIPS[19]]
    assert said.err == (
        f"seqbraid info: error: 2 of 12 clips in {tmp_path} do not match their checksums; "
        "`seqbraid preprocess ... --check` does them again\n"
    )


def test_of_several_ranks_one_checks_and_its_exit_code_is_the_job_s(tmp_path):
    store = make_store(tmp_path, [8] * 20)
    flip_a_byte(tmp_path / "features.npy", store.features.offset)
    done = run_ranks(2, "-m", "seqbraid.cli.main", "info", str(tmp_path), "--check", timeout=60)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [CLIPS[0]]
    assert done.stderr.count("1 of 20 clips") == 1


def test_only_stores_have_checksums_to_check(tmp_path, capsys, write_arrays):
    (tmp_path / "folder").mkdir()
    for path in (write_arrays(), tmp_path / "folder", tmp_path / "nothing"):
        assert main(["info", str(path), "--check"]) == 2
        said = capsys.readouterr()
        assert said.err == (
            f"seqbraid info: error: {path} is no feature store (no store.json), "
            "and only those have checksums to --check\n"
        )
        assert said.out == ""
    assert main(["info", "--check"]) == 2
    assert "--check needs a feature store: `seqbraid info DATA --check`" in capsys.readouterr().err


def test_names_that_are_not_text_can_be_told(tmp_path):
    store = FeatureStore.create(
        tmp_path / "store",
        clips=["a/" + os.fsdecode(b"caf\xe9.avi"), "b/1.avi"],
        labels=[0, 1],
        splits={"1": [1, 2]},
        class_names=["a", "b"],
        frames=1,
        feature_size=1,
        options={},
    )
    store.mark_failed(0)
    store.write_failures({store.clips[0]: "the file is empty"})
    done = subprocess.run(
        [sys.executable, "-m", "seqbraid.cli.main", "info", str(tmp_path / "store")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "caf\\udce9.avi" in done.stdout


def test_a_run_tells_from_where_it_could_go_on(run_copy, capsys):
    run, _ = run_copy
    (run / "stopped").write_text("SIGUSR1\n")
    assert main(["info", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"checkpoints +after 1 update, \d kept$", "\n".join(lines), re.M)
    assert lines[-1].endswith(f"by SIGUSR1; `seqbraid train --output {run} --resume` goes on")
