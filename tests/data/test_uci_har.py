from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from uci_har_layout import ACTIVITIES, random_windows, write_uci_har, zip_uci_har

from seqbraid.data.dataset import open_dataset
from seqbraid.data.uci_har import is_uci_har, read_uci_har
from seqbraid.errors import DataError

TRAIN, TEST = random_windows(7, seed=1), random_windows(4, seed=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_uci_har(tmp_path, TRAIN, TEST)


PACKED: dict[str, Callable[[Path], Path]] = {
    "folder": lambda root: root,
    "parent": lambda root: root.parent,
    "zip": lambda root: zip_uci_har(root, root.parent / "data.zip"),
    "nested zip": lambda root: zip_uci_har(root, root.parent / "data.zip", nested=True),
}


@pytest.mark.parametrize("packed", PACKED)
def test_every_form_of_the_download_is_read(root: Path, packed: str) -> None:
    path = PACKED[packed](root)
    assert is_uci_har(path)
    arrays = read_uci_har(path)
    assert arrays.class_names == list(ACTIVITIES)
    for part, windows in ((arrays.train, TRAIN), (arrays.test, TEST)):
        assert part.x.dtype == np.float32
        np.testing.assert_array_equal(part.x, windows.x)
        np.testing.assert_array_equal(part.labels, windows.y)
        assert part.subjects is not None
        np.testing.assert_array_equal(part.subjects, windows.subjects)
        assert part.lengths.tolist() == [128] * len(windows.y)
    assert arrays.options["source"] == "UCI HAR"
    assert arrays.options["channels"] == [
        *("body_acc_x", "body_acc_y", "body_acc_z"),
        *("body_gyro_x", "body_gyro_y", "body_gyro_z"),
        *("total_acc_x", "total_acc_y", "total_acc_z"),
    ]


def test_a_zip_is_not_unpacked_to_disk(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    path = zip_uci_har(root, tmp_path / "alone" / "data.zip", nested=True)
    read_uci_har(path)
    assert list((tmp_path / "alone").iterdir()) == [path]


def test_a_zip_without_the_outer_folder_is_read(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for path in root.rglob("*.txt"):
            archive.write(path, path.relative_to(root))
    np.testing.assert_array_equal(read_uci_har(tmp_path / "flat.zip").test.x, TEST.x)


def test_files_of_windows_machines_are_read(root: Path) -> None:
    for path in root.rglob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"e-0", b"e-00"))
    np.testing.assert_array_equal(read_uci_har(root).train.x, TRAIN.x)


@pytest.mark.parametrize(
    "name",
    [
        "train/y_train.txt",
        "test/subject_test.txt",
        "train/Inertial Signals/total_acc_z_train.txt",
        "test/Inertial Signals/body_gyro_x_test.txt",
    ],
)
@pytest.mark.parametrize("packed", PACKED)
def test_a_missing_file_is_named(root: Path, packed: str, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DataError, match=rf"lacks (UCI HAR Dataset/)?{name}; .* again"):
        read_uci_har(PACKED[packed](root))


def change_line(number: int, change: Callable[[str], str]) -> Callable[[list[str]], None]:
    def apply(lines: list[str]) -> None:
        lines[number - 1] = change(lines[number - 1])

    return apply


SIGNAL = "train/Inertial Signals/body_acc_y_train.txt"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (SIGNAL, change_line(3, lambda line: line[:-16]), "line 3 holds 127 numbers; expected 128"),
        (SIGNAL, change_line(7, lambda line: line + " 1.0"), "line 7 holds 129 numbers"),
        (
            SIGNAL,
            change_line(1, lambda line: line[:-16] + " 1.0.0"),
            "line 1 holds '1.0.0'; expected",
        ),
        (SIGNAL, change_line(2, lambda line: line[:-16] + " nan"), "line 2 holds 'nan'"),
        (SIGNAL, change_line(2, lambda line: line[:-16] + " -inf"), "line 2 holds '-inf'"),
        (SIGNAL, change_line(2, lambda line: line[:-16] + " 1e39"), "line 2 holds '1e39'"),
        (SIGNAL, change_line(2, lambda line: line[:-16] + " 1_0"), "cannot be read as lines of 128 numbers"),
        (SIGNAL, change_line(4, lambda line: ""), "line 4 holds 0 numbers"),
        (SIGNAL, lambda lines: lines.pop(), r"has 6 lines, but train/y_train\.txt has 7"),
        (SIGNAL, lambda lines: lines.clear(), r"has 0 lines, but train/y_train\.txt has 7"),
        (SIGNAL, lambda lines: lines.append("\n" + lines[0]), r"has 9 lines, but train/y_train\.txt has 7"),
        ("train/y_train.txt", change_line(5, lambda line: "7"), "line 5 holds 7; .* has 1, 2, 3, 4, 5, 6"),
        ("train/y_train.txt", change_line(5, lambda line: "1.0"), "line 5 is '1.0'; expected one whole"),
        ("train/y_train.txt", lambda lines: lines.clear(), r"y_train\.txt is empty"),
        ("test/subject_test.txt", change_line(2, lambda line: "-2"), "line 2 is '-2'; expected one whole"),
        ("test/subject_test.txt", lambda lines: lines.pop(), r"has 3 lines, but test/y_test\.txt has 4"),
        ("activity_labels.txt", change_line(2, lambda line: "1 SITTING"), "line 2 is '1 SITTING'; expected"),
        ("activity_labels.txt", change_line(6, lambda line: "LAYING"), "line 6 is 'LAYING'; expected"),
        ("activity_labels.txt", lambda lines: lines.clear(), "names 0 activities"),
    ],
)
def test_the_file_and_line_that_is_wrong_is_named(
    root: Path, name: str, change: Callable[[list[str]], None], message: str
) -> None:
    lines = (root / name).read_text().splitlines()
    change(lines)
    (root / name).write_text("\n".join(lines) + "\n")
    for packed, before in (("folder", f"{root}/"), ("nested zip", "data.zip: UCI HAR Dataset/")):
        with pytest.raises(DataError, match=message) as caught:
            read_uci_har(PACKED[packed](root))
        assert before + name in str(caught.value)
        assert "\n" not in str(caught.value)


def change_member(path: Path, member: str, **changes: int) -> None:
    """Write the zip's directory with another account of one member."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, value in changes.items():
            setattr(archive.getinfo(member), name, value)
        archive.writestr("more", "")  # so that the directory is written


def test_a_member_that_claims_gigabytes_is_not_unpacked(root: Path, tmp_path: Path) -> None:
    plain = zip_uci_har(root, tmp_path / "plain.zip")
    change_member(plain, "UCI HAR Dataset/test/y_test.txt", file_size=3 * 2**30)
    with pytest.raises(DataError, match=r"test/y_test\.txt would unpack to 3\.0 GB"):
        read_uci_har(plain)
    nested = zip_uci_har(root, tmp_path / "nested.zip", nested=True)
    change_member(nested, "UCI HAR Dataset.zip", file_size=2**31)
    with pytest.raises(DataError, match=r"UCI HAR Dataset\.zip would unpack to 2\.0 GB"):
        read_uci_har(nested)


def test_damaged_zips_are_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    path = zip_uci_har(root, tmp_path / "data.zip")
    content = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.zip is no zip file, or is cut off"):
        read_uci_har(tmp_path / "cut.zip")
    middle = content.index(b"body_gyro_y_test.txt") + 200
    (tmp_path / "damaged.zip").write_bytes(content[:middle] + b"\xff" * 8 + content[middle + 8 :])
    with pytest.raises(DataError, match=r"body_gyro_y_test\.txt cannot be read"):
        read_uci_har(tmp_path / "damaged.zip")
    change_member(path, "UCI HAR Dataset/train/y_train.txt", flag_bits=1)
    with pytest.raises(DataError, match=r"y_train\.txt cannot be read .*password"):
        read_uci_har(path)


def test_other_things_are_not_taken_for_it(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "arrays.npz", x_train=np.zeros(3))
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "junk.zip", "w") as archive:
        archive.writestr("__MACOSX/UCI HAR Dataset.zip", b"")
        archive.writestr("__MACOSX/activity_labels.txt", b"")
    for name in ("empty", "arrays.npz", "text.zip", "junk.zip", "nowhere"):
        assert not is_uci_har(tmp_path / name)
        with pytest.raises(DataError, match=name):
            read_uci_har(tmp_path / name)


@pytest.mark.parametrize("packed", PACKED)
def test_training_on_the_download_itself_says_what_to_run_first(root: Path, packed: str) -> None:
    path = PACKED[packed](root)
    with pytest.raises(DataError, match=r"run `seqbraid preprocess .* once"):
        open_dataset(path)
