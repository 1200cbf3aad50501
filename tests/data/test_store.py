from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.data.store import FeatureStore
from seqbraid.data.store_header import write_header
from seqbraid.errors import DataError

T, F = 5, 3
CLIPS = ["jump/a b.avi", "jump/c.avi", "wave/d.avi", "wave/é.avi"]


def make_store(folder: Path, **changes: Any) -> FeatureStore:
    arguments: dict[str, Any] = {
        "clips": CLIPS,
        "labels": [0, 0, 1, 1],
        "splits": {"1": [1, 2, 1, 0]},
        "class_names": ["jump", "wave"],
        "frames": T,
        "feature_size": F,
        "options": {"backbone": "resnet18", "mean": [0.485, 0.456, 0.406]},
    }
    return FeatureStore.create(folder, **(arguments | changes))


def clip_features(index: int, length: int) -> np.ndarray:
    return np.random.default_rng(index).standard_normal((length, F)).astype(np.float32)


def full_store(folder: Path) -> FeatureStore:
    store = make_store(folder)
    for index, length in enumerate((5, 1, 3)):
        store.write_clip(index, clip_features(index, length))
    store.mark_failed(3)
    return store


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    full_store(tmp_path / "deep" / "store").write_failures({CLIPS[3]: "the file is empty"})
    store = FeatureStore.open(tmp_path / "deep" / "store")
    assert store.lengths.tolist() == [5, 1, 3, 0]
    assert store.labels.tolist() == [0, 0, 1, 1]
    assert store.splits.tolist() == [1, 2, 1, 0]
    assert (store.clips, store.class_names) == (CLIPS, ["jump", "wave"])
    assert store.options == {"backbone": "resnet18", "mean": [0.485, 0.456, 0.406]}
    assert store.failures() == {CLIPS[3]: "the file is empty"}
    expected = np.zeros((4, T, F), dtype=np.float32)
    for index, length in enumerate((5, 1, 3)):
        expected[index, :length] = clip_features(index, length)
    np.testing.assert_array_equal(store.features, expected)
    np.testing.assert_array_equal(store.load([2, 0, 2], 1, 4), expected[[2, 0, 2], 1:4])
    assert store.load(np.array([1]), 2, 2).shape == (1, 0, F)


def test_the_arrays_are_plain_npy_files(tmp_path: Path) -> None:
    full_store(tmp_path)
    features, lengths = np.load(tmp_path / "features.npy"), np.load(tmp_path / "lengths.npy")
    assert (features.shape, features.dtype) == ((4, T, F), np.float32)
    assert (lengths.shape, lengths.dtype) == ((4,), np.int32)


def test_a_new_store_takes_no_room(tmp_path: Path) -> None:
    make_store(tmp_path, frames=1000, feature_size=10_000)
    status = (tmp_path / "features.npy").stat()
    assert status.st_size > 160_000_000
    assert status.st_blocks * 512 < 1_000_000


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, T), min_size=1, max_size=6),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_neighbours_written_at_once_are_as_written_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, lengths: list[int], before: int, after: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    count = before + len(lengths) + after
    names = [f"jump/{number}" for number in range(count)]
    columns = {"clips": names, "labels": [0] * count, "splits": {"1": [1] * count}, "dtype": dtype}
    at_once, one_by_one = make_store(folder / "a", **columns), make_store(folder / "b", **columns)
    block = np.full((len(lengths), max(lengths), F), np.nan, dtype=np.float32)
    for row, length in enumerate(lengths):
        block[row, :length] = clip_features(row, length)
        one_by_one.write_clip(before + row, block[row, :length])
    at_once.write_clips(before, block, np.array(lengths))
    for name in ("features.npy", "lengths.npy", "checksums.npy"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()
    assert at_once.lengths.tolist() == at_once.read_lengths().tolist()
    assert FeatureStore.open(folder / "a", require_complete=False).damaged() == []


def test_features_are_on_the_disk_before_their_lengths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path)
    written: list[str] = []
    monkeypatch.setattr("seqbraid.data.store.write_at", lambda path, *_: written.append(path.name))
    store.write_clips(1, np.ones((2, T, F), np.float32), np.array([T, 2]))
    assert written == ["features.npy", "checksums.npy", "lengths.npy"]


def test_blocks_that_do_not_fit_the_store_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, dtype="float16")
    block = np.ones((2, 3, F), np.float32)
    for lengths in ([3], [0, 1], [4, 1], [[1], [1]]):
        with pytest.raises(ValueError, match="lengths"):
            store.write_clips(0, block, np.array(lengths))
    for first in (-1, 3):
        with pytest.raises(IndexError):
            store.write_clips(first, block, np.array([3, 3]))
    block[1, 2] = 1e5
    with pytest.raises(DataError, match=r"wave/d\.avi: features up to 1e\+05 do not fit float16"):
        store.write_clips(1, block, np.array([3, 3]))
    assert len(store.pending()) == 4
    store.write_clips(1, block, np.array([3, 2]))  # what lies past the length does not count
    assert store.pending().tolist() == [0, 3]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, T + 1), (3, 2)])
def test_steps_outside_the_store_are_refused(tmp_path: Path, start: int, stop: int) -> None:
    with pytest.raises(IndexError):
        full_store(tmp_path).load([0], start, stop)


def test_an_incomplete_store_says_how_to_go_on(tmp_path: Path) -> None:
    make_store(tmp_path).write_clip(2, clip_features(2, 4))
    with pytest.raises(DataError, match=r"incomplete: 3 of 4 clips are pending; .* same .*preprocess"):
        FeatureStore.open(tmp_path)
    store = FeatureStore.open(tmp_path, require_complete=False)
    assert store.pending().tolist() == [0, 1, 3]


def test_failed_clips_can_be_tried_again(tmp_path: Path) -> None:
    store = full_store(tmp_path)
    store.mark_pending(store.failed())
    assert store.read_lengths().tolist() == [5, 1, 3, -1]


@pytest.mark.parametrize("shape", [(0, F), (T + 1, F), (2, F + 1), (2,)])
def test_features_of_the_wrong_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = make_store(tmp_path)
    with pytest.raises(ValueError, match="features of shape"):
        store.write_clip(0, np.zeros(shape, dtype=np.float32))
    assert len(store.pending()) == 4


def test_a_clip_outside_the_store_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(IndexError):
        store.write_clip(4, clip_features(0, 2))
    with pytest.raises(IndexError):
        store.mark_failed(-1)


def write_share(folder: Path, first: int) -> None:
    store = FeatureStore.open(folder, require_complete=False)
    for index in range(first, len(store), 2):
        store.write_clip(index, clip_features(index, 1 + index % T))


def test_processes_write_beside_each_other(tmp_path: Path) -> None:
    clips = [f"jump/{number}.avi" for number in range(60)]
    make_store(tmp_path, clips=clips, labels=[0] * 60, splits={"1": [1] * 60})
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_share, args=(tmp_path, first)) for first in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
    store = FeatureStore.open(tmp_path)
    for index in range(60):
        np.testing.assert_array_equal(
            store.features[index, : store.lengths[index]], clip_features(index, 1 + index % T)
        )


def test_a_store_is_not_made_over_another_or_beside_other_files(tmp_path: Path) -> None:
    make_store(tmp_path / "store")
    with pytest.raises(DataError, match="holds a feature store already"):
        make_store(tmp_path / "store")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("dear to someone")
    with pytest.raises(DataError, match=r"other files \(thesis\.tex\)"):
        make_store(tmp_path / "full")
    with pytest.raises(DataError, match="is a file"):
        make_store(tmp_path / "full" / "thesis.tex")


def test_a_creation_cut_off_can_be_repeated(tmp_path: Path) -> None:
    make_store(tmp_path)
    (tmp_path / "store.json").rename(tmp_path / "store.json.new")
    (tmp_path / "lengths.npy").unlink()
    assert len(make_store(tmp_path).pending()) == 4


def change_header(guard: bool = True, **changes: Any) -> Callable[[Path], None]:
    """Change the header; with `guard` as one who also writes the right checksum."""

    def change(folder: Path) -> None:
        document = json.loads((folder / "store.json").read_text())
        header = document["store"] | changes
        if guard:
            write_header(folder, header)
        else:
            text = f'{{"sha256": "{document["sha256"]}",\n"store": {json.dumps(header)}}}\n'
            (folder / "store.json").write_text(text)

    return change


def truncate(name: str, by: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-by] if by > 0 else data + b"x" * -by)

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "store.json").unlink(), "is not a feature store"),
        (lambda folder: (folder / "features.npy").unlink(), r"features\.npy is damaged .*missing"),
        (lambda folder: (folder / "features.npy").write_bytes(b""), r"features\.npy is damaged"),
        (lambda folder: (folder / "lengths.npy").write_text("text"), r"lengths\.npy is damaged"),
        (truncate("features.npy", 1), r"features\.npy is damaged"),
        (truncate("features.npy", -1), r"features\.npy is damaged"),
        (truncate("lengths.npy", 4), r"lengths\.npy is damaged"),
        (truncate("store.json", 20), r"store\.json is damaged \(not JSON"),
        (change_header(version=99), "format version 99"),
        (change_header(features=[4, T + 1, F]), r"features\.npy is damaged"),
        (change_header(features="wide"), "damaged"),
        (change_header(labels=[0]), r"store\.json is damaged"),
        (change_header(options=None), r"store\.json is damaged"),
        (change_header(split="7"), r"store\.json is damaged .*no split '7' among 1"),
        (change_header(splits={"1": [1, 2]}), r"store\.json is damaged .*4 clips, but 2 marks of split 1"),
        (change_header(dtype="object"), r"store\.json is damaged .*dtype"),
        (change_header(guard=False, labels=[1, 0, 1, 1]), r"store\.json is damaged \(its sha256"),
        (lambda folder: (folder / "checksums.npy").unlink(), r"checksums\.npy is damaged .*missing"),
        (lambda folder: (folder / "store.json").write_text("[]"), "no format version"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    full_store(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        FeatureStore.open(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a feature store"):
        FeatureStore.open(tmp_path / "nowhere")


def test_half_precision_is_stored_and_read_back_as_float32(tmp_path: Path) -> None:
    store = make_store(tmp_path, dtype="float16")
    store.write_clip(1, clip_features(1, 4))
    store = FeatureStore.open(tmp_path, require_complete=False)
    assert store.features.dtype == np.float16
    block = store.load([1], 0, T)
    assert block.dtype == np.float32
    np.testing.assert_array_equal(block[0, :4], clip_features(1, 4).astype(np.float16).astype(np.float32))
    with pytest.raises(DataError, match=r"jump/a b\.avi: features up to 7e\+04 do not fit float16 .*float32"):
        store.write_clip(0, np.full((2, F), 7e4, dtype=np.float32))
    assert 0 in store.pending()


def test_splits_and_source_can_change_and_nothing_else(tmp_path: Path) -> None:
    store = full_store(tmp_path)
    store.update_header(splits={"a": [2, 2, 1, 1], "b": [1, 1, 2, 2]}, split="b", source="/videos")
    for each in (store, FeatureStore.open(tmp_path)):
        assert (each.split_names, each.split, each.source) == (["a", "b"], "b", "/videos")
        assert each.splits.tolist() == [1, 1, 2, 2]
        assert each.marks("a").tolist() == [2, 2, 1, 1]
    with pytest.raises(DataError, match="no split 'c'; it has a, b"):
        store.marks("c")
    with pytest.raises(ValueError, match="clips of a store cannot be changed"):
        store.update_header(clips=["x"])
    with pytest.raises(ValueError, match="4 clips, but 1 marks of split a"):
        store.update_header(splits={"a": [1]}, split="a")


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "position", "wrong"),
    [
        ("features.npy", -(4 * T * F * 4), [0]),  # the first number of clip 0
        ("features.npy", -(2 * T * F * 4) + 3 * F * 4 - 1, [2]),  # the last of clip 2
        ("features.npy", -1, []),  # in the room of clip 3, which failed
        ("lengths.npy", -8, [2]),  # three steps become two
        ("checksums.npy", -16, [0]),
    ],
)
def test_a_flipped_bit_is_found(tmp_path: Path, name: str, position: int, wrong: list[int]) -> None:
    store = full_store(tmp_path)
    assert store.damaged() == []
    flip(tmp_path / name, position)
    told: list[int] = []
    assert store.damaged(told.append) == wrong
    assert sum(told) == 4


def test_a_length_beyond_the_store_is_found(tmp_path: Path) -> None:
    full_store(tmp_path)
    data = (tmp_path / "lengths.npy").read_bytes()
    (tmp_path / "lengths.npy").write_bytes(data[:-12] + (T + 1).to_bytes(4, "little") + data[-8:])
    assert FeatureStore.open(tmp_path).damaged() == [1]


READ_A_QUARTER = """
import sys, numpy as np
from pathlib import Path
from seqbraid.data.store import FeatureStore
store = FeatureStore.open(sys.argv[1])
count = lambda: int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
first, last = int(sys.argv[2]), int(sys.argv[3])
before = count()
store.load(np.arange(len(store)), first, last)
print(count() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count read bytes")
def test_a_rank_reads_its_own_steps_alone(tmp_path: Path) -> None:
    clips = [f"jump/{number}.avi" for number in range(20)]
    store = make_store(
        tmp_path, clips=clips, labels=[0] * 20, splits={"1": [1] * 20}, frames=128, feature_size=500
    )
    for index in range(20):
        store.write_clip(index, np.ones((128 if index < 10 else 40, 500), dtype=np.float32))

    def read_bytes(first: int, last: int) -> int:
        command = [sys.executable, "-c", READ_A_QUARTER, str(tmp_path), str(first), str(last)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    step = 500 * 4
    own = 200  # the counter itself is read once in between
    assert read_bytes(0, 32) == pytest.approx(20 * 32 * step, abs=own)
    assert read_bytes(32, 64) == pytest.approx(10 * (32 + 8) * step, abs=own)
    assert read_bytes(96, 128) == pytest.approx(10 * 32 * step, abs=own)


def test_seven_thousand_clips_open_without_reading_them(tmp_path: Path) -> None:
    count = 7000
    clips = [f"class {number % 51}/{'long name ' * 6}{number}.avi" for number in range(count)]
    splits = {str(number): [1] * count for number in (1, 2, 3)}
    make_store(
        tmp_path, clips=clips, labels=[0] * count, splits=splits, frames=128, feature_size=1000
    ).mark_failed(0)
    command = [sys.executable, "-c", OPEN_AND_COUNT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3_000_000  # of 3.6 GB


OPEN_AND_COUNT = """
import sys
from pathlib import Path
from seqbraid.data.store import FeatureStore
count = lambda: int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
before = count()
FeatureStore.open(sys.argv[1], require_complete=False)
print(count() - before)
"""
