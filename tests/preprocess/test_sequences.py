from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uci_har_layout import ACTIVITIES, Windows, random_windows, write_uci_har, zip_uci_har

from preprocess import sequences
from preprocess.sequences import is_sequence_source, store_sequences
from seqbraid.comm import SimulatedWorld, SingleProcess
from seqbraid.data.dataset import open_dataset
from seqbraid.data.standardisation import Standardisation
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError


def make_arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(30, 5, 2)),
        "y_train": np.arange(30) % 3,
        "length_train": random.integers(1, 6, 30),
        "x_test": random.normal(size=(20, 7, 2)),
        "y_test": np.arange(20) % 3,
        "label": np.array(["walk", "sit", "stand"]),
        "subject_train": random.integers(1, 9, 30),
        "subject_test": random.integers(1, 9, 20),
        **changes,
    }


def write_file(path: Path, **changes: Any) -> Path:
    np.savez(path, **make_arrays(**changes))
    return path


def write_folder(path: Path, **changes: Any) -> Path:
    path.mkdir()
    for name, values in make_arrays(**changes).items():
        np.save(path / f"{name}.npy", values)
    return path


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.glob("*.npy")}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "_BLOCK_BYTES", 4 * 4 * 7 * 2)  # four sequences


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_the_store_holds_the_arrays(
    write: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, arrays = write(tmp_path / "data.npz"), make_arrays()
    store_sequences(source, tmp_path / "out", SingleProcess())
    store = FeatureStore.open(tmp_path / "out")
    assert store.shape == (50, 7, 2)
    assert (store.clips[0], store.clips[29], store.clips[30]) == ("train/00000", "train/00029", "test/00000")
    assert store.labels.tolist() == [*arrays["y_train"], *arrays["y_test"]]
    assert store.subjects == [*arrays["subject_train"], *arrays["subject_test"]]
    assert (store.split_names, store.splits.tolist()) == (["official"], [1] * 30 + [2] * 20)
    assert (store.class_names, store.source) == (["walk", "sit", "stand"], str(source))
    assert (store.options["source"], store.options["features"]) == ("arrays", 2)
    assert store.lengths.tolist() == [*arrays["length_train"], *[7] * 20]
    expected = np.zeros((50, 7, 2), dtype=np.float32)
    for index, length in enumerate(store.lengths):
        part, row = ("train", index) if index < 30 else ("test", index - 30)
        expected[index, :length] = arrays[f"x_{part}"][row, :length]
    np.testing.assert_array_equal(store.features, expected)
    assert store.damaged() == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "50 sequences of 3 classes: 30 train, 20 test; 1 rank"
    assert lines[1].startswith("50 sequences in ")
    assert lines[1].endswith(f"50 of 50 sequences are in {tmp_path / 'out'}")


def test_every_form_of_uci_har_makes_the_same_store(tmp_path: Path) -> None:
    train, test = random_windows(6, seed=1), random_windows(5, seed=2)
    root = write_uci_har(tmp_path, train, test)
    plain = zip_uci_har(root, tmp_path / "plain.zip")
    nested = zip_uci_har(root, tmp_path / "nested.zip", nested=True)
    stores = [
        store_sequences(source, tmp_path / f"out{number}", SingleProcess())
        for number, source in enumerate((root, tmp_path, plain, nested))
    ]
    for store in stores:
        np.testing.assert_array_equal(store.features, np.concatenate([train.x, test.x]))
        assert store.labels.tolist() == [*train.y, *test.y]
        assert store.subjects == [*train.subjects, *test.subjects]
        assert store.class_names == list(ACTIVITIES)
        assert store.options == stores[0].options
    assert (stores[0].options["source"], stores[0].options["features"]) == ("UCI HAR", 9)
    assert stores[0].options["channels"][3] == "body_gyro_x"


@pytest.mark.parametrize("ranks", [2, 3, 20])
@pytest.mark.usefixtures("small_blocks")
def test_ranks_share_the_work_and_write_the_bytes_of_one(tmp_path: Path, ranks: int) -> None:
    source = write_file(tmp_path / "data.npz")
    store_sequences(source, tmp_path / "one", SingleProcess())
    SimulatedWorld(ranks).run(lambda comm: store_sequences(source, tmp_path / "several", comm))
    assert contents(tmp_path / "several") == contents(tmp_path / "one")


@pytest.mark.usefixtures("small_blocks")
def test_each_rank_writes_about_as_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_file(tmp_path / "data.npz")
    written: dict[int, int] = {}
    write_clips = FeatureStore.write_clips

    def count(self: FeatureStore, first: int, features: Any, lengths: Any) -> None:
        written[id(self)] = written.get(id(self), 0) + len(lengths)
        write_clips(self, first, features, lengths)

    monkeypatch.setattr(FeatureStore, "write_clips", count)
    SimulatedWorld(2).run(lambda comm: store_sequences(source, tmp_path / "out", comm))
    assert sum(written.values()) == 50
    assert max(written.values()) <= 28


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("blocks", [0, 1, 9])
def test_a_job_cut_off_continues_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], blocks: int
) -> None:
    source = write_file(tmp_path / "data.npz")
    store_sequences(source, tmp_path / "expected", SingleProcess())
    write_clips, calls = FeatureStore.write_clips, [0]

    def stop(self: FeatureStore, first: int, features: Any, lengths: Any) -> None:
        if calls[0] == blocks:
            raise KeyboardInterrupt
        calls[0] += 1
        write_clips(self, first, features, lengths)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write_clips", stop)
        with pytest.raises(KeyboardInterrupt):
            store_sequences(source, tmp_path / "out", SingleProcess())
    there = 50 - len(FeatureStore.open(tmp_path / "out", require_complete=False).pending())
    assert (there > 0) == (blocks > 0)
    capsys.readouterr()
    store_sequences(source, tmp_path / "out", SingleProcess())
    assert f"\n{50 - there} sequences in" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


@pytest.mark.usefixtures("small_blocks")
def test_gaps_are_filled(tmp_path: Path) -> None:
    source = write_file(tmp_path / "data.npz")
    store = store_sequences(source, tmp_path / "out", SingleProcess())
    expected = contents(tmp_path / "out")
    store.mark_pending([0, 3, 4, 5, 27, 28, 29, 30, 31, 49])
    store_sequences(source, tmp_path / "out", SingleProcess())
    assert contents(tmp_path / "out") == expected


def test_damaged_sequences_are_stored_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_file(tmp_path / "data.npz")
    store_sequences(source, tmp_path / "out", SingleProcess())
    whole = contents(tmp_path / "out")
    data = bytearray(whole["features.npy"])
    data[-100] ^= 4
    (tmp_path / "out" / "features.npy").write_bytes(data)
    store_sequences(source, tmp_path / "out", SingleProcess())
    assert contents(tmp_path / "out") != whole
    store_sequences(source, tmp_path / "out", SingleProcess(), check=True)
    assert "1 sequences do not match their checksums and are done again" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"x_test": np.zeros((20, 7, 2))},
        {"y_train": np.arange(30) % 2},
        {"length_train": np.full(30, 5)},
        {"label": np.array(["sit", "walk", "stand"])},
        {"subject_test": np.arange(20)},
        {name: values[:29] for name, values in make_arrays().items() if name.endswith("_train")},
    ],
)
def test_a_store_of_other_sequences_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    store_sequences(write_file(tmp_path / "data.npz"), tmp_path / "out", SingleProcess())
    before = contents(tmp_path / "out")
    other = write_file(tmp_path / "other.npz", **changes)
    with pytest.raises(DataError, match=r"out holds other features than .*other\.npz; choose another folder"):
        store_sequences(other, tmp_path / "out", SingleProcess())
    assert contents(tmp_path / "out") == before


def test_the_same_sequences_from_elsewhere_continue_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_sequences(write_file(tmp_path / "data.npz"), tmp_path / "out", SingleProcess())
    x = make_arrays()["x_train"]
    x[make_arrays()["length_train"] < 5, 4] = np.nan  # which is no part of any sequence
    folder = write_folder(tmp_path / "folder", x_train=x)
    capsys.readouterr()
    store = store_sequences(folder, tmp_path / "out", SingleProcess())
    assert "50 there already" in capsys.readouterr().out
    assert store.source == str(folder)


def test_another_dtype_or_a_store_of_videos_is_refused(tmp_path: Path) -> None:
    source = write_file(tmp_path / "data.npz")
    half = store_sequences(source, tmp_path / "out", SingleProcess(), dtype="float16")
    single = make_arrays()["x_test"].astype(np.float32)
    np.testing.assert_array_equal(half.features[30:], single.astype(np.float16))
    with pytest.raises(DataError, match="made with dtype float16, now asked for float32"):
        store_sequences(source, tmp_path / "out", SingleProcess())
    FeatureStore.create(
        tmp_path / "videos",
        clips=["jump/a.avi"],
        labels=[0],
        splits={"1": [1]},
        class_names=["jump", "wave"],
        frames=3,
        feature_size=2,
        options={"backbone": "resnet18"},
    )
    with pytest.raises(DataError, match="videos holds other features than"):
        store_sequences(source, tmp_path / "videos", SingleProcess())


def test_no_store_is_made_of_what_cannot_be_used(tmp_path: Path) -> None:
    x = make_arrays()["x_test"]
    x[17, 6, 1] = np.nan
    for source in (write_file(tmp_path / "data.npz", x_test=x), write_folder(tmp_path / "folder", x_test=x)):
        with pytest.raises(DataError, match="x_test holds nan, inf or values beyond 1e30 within sequence 17"):
            SimulatedWorld(2).run(lambda comm, source=source: store_sequences(source, tmp_path / "out", comm))
    for name in ("none.npz", "none.zip"):
        with pytest.raises(DataError, match=f"{name} does not exist"):
            store_sequences(tmp_path / name, tmp_path / "out", SingleProcess())
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(DataError, match=r"text\.zip is no zip file"):
        store_sequences(tmp_path / "text.zip", tmp_path / "out", SingleProcess())
    assert not (tmp_path / "out").exists()


def test_what_is_for_sequences_is_told_from_videos(tmp_path: Path) -> None:
    root = write_uci_har(tmp_path / "har", random_windows(2, seed=1), random_windows(2, seed=2))
    (tmp_path / "videos" / "jump").mkdir(parents=True)
    (tmp_path / "videos" / "jump" / "a.avi").write_bytes(b"")
    (tmp_path / "manifest.csv").write_text("path,label\n")
    for path in (root, root.parent, write_file(tmp_path / "a.npz"), write_folder(tmp_path / "folder")):
        assert is_sequence_source(path)
    assert is_sequence_source(tmp_path / "download.ZIP")
    for name in ("videos", "videos/jump", "manifest.csv", "nowhere"):
        assert not is_sequence_source(tmp_path / name)


def test_statistics_for_training_do_not_depend_on_the_test_part(tmp_path: Path) -> None:
    arrays = make_arrays()
    fitted = []
    for name, x_test in (("a", arrays["x_test"]), ("b", 1e3 + 50 * arrays["x_test"])):
        store_sequences(write_file(tmp_path / f"{name}.npz", x_test=x_test), tmp_path / name, SingleProcess())
        dataset = open_dataset(tmp_path / name)
        fitted.append(Standardisation.fit(dataset.train, 0, dataset.steps, 2, SingleProcess()))
    assert fitted[0].mean.tolist() == fitted[1].mean.tolist()
    assert fitted[0].deviation.tolist() == fitted[1].deviation.tolist()
    held = np.arange(5) < arrays["length_train"][:, None]
    np.testing.assert_allclose(fitted[0].mean, arrays["x_train"][held].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(fitted[0].deviation, arrays["x_train"][held].std(axis=0), rtol=1e-5)


def test_real_windows_survive_the_official_layout(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "har_from_hapt.npz"
    if not path.is_file():
        pytest.skip(f"no recordings at {path}")
    with np.load(path) as file:
        train = Windows(file["x_train"][:40], file["y_train"][:40], file["subject_train"][:40])
        test = Windows(file["x_test"][:10], file["y_test"][:10], np.arange(1, 11))
    root = write_uci_har(tmp_path, train, test)
    store = store_sequences(zip_uci_har(root, tmp_path / "har.zip", True), tmp_path / "out", SingleProcess())
    expected = np.concatenate([train.x, test.x]).astype(np.float64)
    np.testing.assert_allclose(store.features, expected, rtol=2e-7)  # the text has eight digits
    assert store.labels.tolist() == [*train.y, *test.y]
