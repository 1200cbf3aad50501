from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.clips import SUBSETS, LabelledClips, SplitOptions, labelled_clips
from seqbraid.errors import DataError, OptionsError

DRAWN = SplitOptions()


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write_splits(folder: Path, **lines: str) -> SplitOptions:
    """Write split files, by keywords <class>_test_split<N>, with commas for line ends; return the options."""
    folder.mkdir(exist_ok=True)
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text(text.replace(",", " \n") + " \n")
    return SplitOptions(splits=folder)


def write_manifest(root: Path, *lines: str) -> Path:
    (root / "clips.csv").write_text("\n".join(lines))
    return root / "clips.csv"


def by_clip(found: LabelledClips, split: str) -> dict[str, int]:
    return dict(zip(found.clips, found.splits[split], strict=True))


def test_clips_are_sorted_and_labelled_by_folder(tmp_path: Path) -> None:
    touch(
        tmp_path, "run/b (2) #1.AVI", "run/a.mp4", "clap/z.webm", "run/notes.txt", "run/._a.mp4", "loose.avi"
    )
    touch(tmp_path, ".trash/a.avi", "clap/a.avi")
    found = labelled_clips(tmp_path, DRAWN)
    assert found.root == tmp_path
    assert found.class_names == ["clap", "run"]
    assert found.clips == ["clap/a.avi", "clap/z.webm", "run/a.mp4", "run/b (2) #1.AVI"]
    assert found.labels == [0, 0, 1, 1]
    assert list(found.splits) == [found.split] == ["drawn"]
    assert sorted(found.splits["drawn"][:2]) == sorted(found.splits["drawn"][2:]) == [1, 2]
    assert found.missing == found.unlisted == []


def test_folders_without_videos_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "clap/a.avi", "splits/run_test_split1.txt")
    (tmp_path / "empty").mkdir()
    assert labelled_clips(tmp_path, DRAWN).class_names == ["clap", "run"]


def test_classes_and_clips_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.avi", "elsewhere/b.avi", "root/run/own.avi")
    (tmp_path / "root" / "clap").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "run" / "linked.avi").symlink_to(tmp_path / "elsewhere" / "a.avi")
    (tmp_path / "root" / "run" / "broken.avi").symlink_to("nothing.avi")
    found = labelled_clips(tmp_path / "root", DRAWN)
    assert found.clips == ["clap/a.avi", "clap/b.avi", "run/linked.avi", "run/own.avi"]


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        labelled_clips(tmp_path / "nowhere", DRAWN)


def test_a_root_without_class_folders_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.avi", "splits/run_test_split1.txt")
    with pytest.raises(DataError, match="no class folders"):
        labelled_clips(tmp_path, DRAWN)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi")
    with pytest.raises(DataError, match=r"only one class .*run"):
        labelled_clips(tmp_path, DRAWN)


def test_all_splits_of_a_folder_are_read_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "run/new.avi", "walk/a.avi")
    options = write_splits(
        tmp_path / "splits",
        run_test_split1="a.avi 1,b.avi 2,gone.avi 1",
        run_test_split2="a.avi 2,b.avi 0",
        walk_test_split1="a.avi 2",
        walk_test_split2="a.avi 1,away.avi 2",
    )
    found = labelled_clips(tmp_path, options)
    assert found.clips == ["run/a.avi", "run/b.avi", "run/new.avi", "walk/a.avi"]
    assert found.splits == {"1": [1, 2, 0, 2], "2": [2, 0, 0, 1]}
    assert found.split == "1"
    assert found.missing == ["run/gone.avi", "walk/away.avi"]
    assert found.unlisted == ["run/new.avi"]
    assert labelled_clips(tmp_path, SplitOptions(splits=options.splits, split="2")).split == "2"
    with pytest.raises(OptionsError, match="no split '3'; there is 1, 2"):
        labelled_clips(tmp_path, SplitOptions(splits=options.splits, split="3"))


def test_class_folders_without_split_files_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "sit/a.avi", "sit/b.avi", "walk/a.avi", "crawl/a.avi")
    lines = "a.avi 1,b.avi 2"
    options = write_splits(tmp_path / "splits", run_test_split1=lines, sit_test_split1=lines)
    with pytest.raises(DataError, match="no split files of the classes crawl, walk of "):
        labelled_clips(tmp_path, options)
    chosen = SplitOptions(splits=options.splits, classes=("sit", "run"))
    assert labelled_clips(tmp_path, chosen).splits == {"1": [1, 2, 1, 2]}


def test_a_class_of_the_split_files_that_has_no_folder_is_missing_as_a_whole(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "sit/a.avi")
    (tmp_path / "lie").mkdir()
    options = write_splits(
        tmp_path / "splits",
        run_test_split1="a.avi 1,b.avi 2",
        sit_test_split1="a.avi 1",
        walk_test_split1="a.avi 1,b.avi 2",
        lie_test_split1="c.avi 1",
    )
    found = labelled_clips(tmp_path, options)
    assert found.class_names == ["run", "sit"]
    assert found.missing == ["lie/c.avi", "walk/a.avi", "walk/b.avi"]
    chosen = SplitOptions(splits=options.splits, classes=("sit", "run"))
    assert labelled_clips(tmp_path, chosen).missing == []


def test_only_chosen_classes_are_taken(tmp_path: Path) -> None:
    for name in (*SUBSETS["hmdb6"], "drink", "pour"):
        touch(tmp_path, f"{name}/a.avi", f"{name}/b.avi")
    found = labelled_clips(tmp_path, SplitOptions(classes=SUBSETS["hmdb6"]))
    assert found.class_names == ["chew", "eat", "jump", "run", "sit", "walk"]
    assert found.labels == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    with pytest.raises(OptionsError, match="no clips of the classes fly, swim; it has chew, drink, eat"):
        labelled_clips(tmp_path, SplitOptions(classes=("swim", "run", "fly")))
    for classes, words in (((), "none"), (("run", "run"), "run")):
        with pytest.raises(OptionsError, match=f"classes chosen: {words}; expected two or more"):
            labelled_clips(tmp_path, SplitOptions(classes=classes))


def test_split_files_and_disk_may_spell_names_differently(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Geena Müller.avi") for form in ("NFC", "NFD"))
    latin = os.fsdecode("Geena Müller.avi".encode("latin-1"))
    class_name = unicodedata.normalize("NFD", "drôle")
    spellings = (composed, decomposed, latin)
    for written in spellings:
        for unpacked in spellings:
            with TemporaryDirectory() as folder:
                root, splits = Path(folder) / "root", Path(folder) / "splits"
                touch(root, f"{class_name}/{unpacked}", "sit/a.avi")
                options = write_splits(splits, sit_test_split1="a.avi 2")
                (splits / "drôle_test_split1.txt").write_bytes(os.fsencode(written) + b" 1 \n")
                found = labelled_clips(root, options)
            assert found.class_names == ["drôle", "sit"]
            assert found.clips == [f"{class_name}/{unpacked}", "sit/a.avi"]
            assert found.splits == {"1": [1, 2]}
            assert found.missing == found.unlisted == []


def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    names = [b"run/\xff\xfe.avi", b"run/plain.avi", b"\xe9t\xe9/a.avi", b"\xe9t\xe9/b.avi"]
    touch(tmp_path, *(os.fsdecode(name) for name in names))
    found = labelled_clips(tmp_path, DRAWN)
    assert {os.fsencode(clip) for clip in found.clips} == set(names)
    assert all((found.root / clip).is_file() for clip in found.clips)
    assert found.class_names == ["run", "été"]


# What a file may be called, but for a leading dot and the blanks that end the name in a split file.
_NAMES = (
    st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="/") | st.just(" "), min_size=1)
    .filter(lambda name: not name.startswith(".") and not name.endswith(" "))
    .filter(lambda name: len(unicodedata.normalize("NFD", name).encode()) < 200)
    .map(lambda name: unicodedata.normalize("NFC", name))
)
_MARKS = st.sampled_from([0, 1, 2])


@settings(max_examples=50)
@given(
    classes=st.dictionaries(
        _NAMES, st.dictionaries(_NAMES, st.tuples(_MARKS, _MARKS), max_size=4), min_size=2, max_size=4
    ),
    forms=st.sampled_from([("NFC", "NFD"), ("NFD", "NFC")]),
)
def test_marks_of_any_names_come_back(
    classes: dict[str, dict[str, tuple[int, int]]], forms: tuple[str, str]
) -> None:
    listed, unpacked = forms
    expected: dict[str, tuple[int, int]] = {}
    with TemporaryDirectory() as folder:
        root, splits = Path(folder) / "root", Path(folder) / "splits"
        splits.mkdir()
        for class_name, names in classes.items():
            # So that every split trains and tests.
            marks = names | {"first": (1, 2), "second": (2, 1)}
            for number in (1, 2):
                lines = [f"{name}.avi {both[number - 1]} \n" for name, both in marks.items()]
                text = unicodedata.normalize(listed, "".join(lines))
                file = unicodedata.normalize(listed, f"{class_name}_test_split{number}.txt")
                (splits / file).write_bytes(text.encode())
            clips = {
                unicodedata.normalize(unpacked, f"{class_name}/{name}.avi"): both
                for name, both in marks.items()
            }
            touch(root, *clips)
            expected |= clips
        found = labelled_clips(root, SplitOptions(splits=splits))
    assert by_clip(found, "1") == {clip: both[0] for clip, both in expected.items()}
    assert by_clip(found, "2") == {clip: both[1] for clip, both in expected.items()}
    assert found.missing == found.unlisted == []


@pytest.fixture(scope="session")
def hmdb51(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, int]]]:
    """Return a tree of empty files with the names of HMDB51, and {split: {clip: mark}} by other means."""
    folder = shared_data / "hmdb51_splits"
    if not folder.is_dir():
        pytest.skip(f"no HMDB51 split files at {folder}")
    root = tmp_path_factory.mktemp("hmdb51")
    marks: dict[str, dict[str, int]] = {"1": {}, "2": {}, "3": {}}
    for class_name in (folder / "class_list.txt").read_text().split():
        (root / class_name).mkdir()
        for split in marks:
            # None of the official names holds a blank.
            words = (folder / f"{class_name}_test_split{split}.txt").read_text().split()
            marks[split] |= {
                f"{class_name}/{a}": int(b) for a, b in zip(words[::2], words[1::2], strict=True)
            }
    for clip in marks["1"]:
        (root / clip).touch()
    return root, marks


def test_hmdb51_gets_its_official_splits(
    hmdb51: tuple[Path, dict[str, dict[str, int]]], shared_data: Path
) -> None:
    root, marks = hmdb51
    options = SplitOptions(splits=shared_data / "hmdb51_splits")
    found = labelled_clips(root, options)
    assert len(found.class_names) == 51
    assert len(found.clips) == 6766
    assert list(found.splits) == ["1", "2", "3"]
    for split, expected in marks.items():
        assert by_clip(found, split) == expected
        assert Counter(found.splits[split]) == {1: 3570, 2: 1530, 0: 1666}
    assert found.missing == found.unlisted == []
    assert all(
        clip.startswith(f"{found.class_names[label]}/")
        for clip, label in zip(found.clips, found.labels, strict=True)
    )
    gone = [found.clips[index] for index in (0, 77, 3000, 6765)]
    for clip in gone:
        (root / clip).rename(root / f"{clip}.txt")
    lessened = labelled_clips(root, options)
    for clip in gone:
        (root / f"{clip}.txt").rename(root / clip)
    assert lessened.missing == gone
    assert lessened.clips == [clip for clip in found.clips if clip not in gone]


def test_the_six_classes_of_the_paper_are_a_part_of_hmdb51(
    hmdb51: tuple[Path, dict[str, dict[str, int]]], shared_data: Path
) -> None:
    root, _ = hmdb51
    options = SplitOptions(splits=shared_data / "hmdb51_splits", classes=SUBSETS["hmdb6"])
    found = labelled_clips(root, options)
    assert found.class_names == list(SUBSETS["hmdb6"])
    assert all(Counter(marks)[1] == 6 * 70 and Counter(marks)[2] == 6 * 30 for marks in found.splits.values())
    assert found.missing == found.unlisted == []


def test_real_clips_and_their_split_files_belong_together(shared_data: Path) -> None:
    root = shared_data / "jhmdb_motions"
    if not root.is_dir():
        pytest.skip(f"no clips at {root}")
    found = labelled_clips(root, SplitOptions(splits=root / "splits", split="1"))
    assert (len(found.clips), len(found.class_names), list(found.splits)) == (609, 14, ["1", "2", "3"])
    assert Counter(found.splits["1"]) == {1: 433, 2: 176}
    assert found.missing == found.unlisted == []


@pytest.mark.parametrize(
    ("lines", "purpose"), [("a.avi 0,b.avi 2", "training"), ("a.avi 1,b.avi 0", "testing")]
)
def test_the_default_split_trains_and_tests(tmp_path: Path, lines: str, purpose: str) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "walk/a.avi", "walk/b.avi")
    good = "a.avi 1,b.avi 2"
    options = write_splits(
        tmp_path / "splits",
        run_test_split1=lines,
        run_test_split2=good,
        walk_test_split1=lines,
        walk_test_split2=good,
    )
    with pytest.raises(DataError, match=rf"split 1 of .*splits marks none of the 4 clips for {purpose} \("):
        labelled_clips(tmp_path, options)
    # A split that is not the default one may be of no use.
    found = labelled_clips(tmp_path, SplitOptions(splits=options.splits, split="2"))
    assert set(found.splits["1"]) == {int(line[-1]) for line in lines.split(",")}


def test_a_draw_does_not_depend_on_the_order_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{class_name}/{number:02}.avi" for class_name in ("run", "sit", "walk") for number in range(20)]
    touch(tmp_path, *names)
    options = [SplitOptions(draw=draw, test_fraction=0.1, seed=3) for draw in ("stratified", "random")]
    first = [labelled_clips(tmp_path, each) for each in options]
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    assert [labelled_clips(tmp_path, each) for each in options] == first
    assert first[0].splits != first[1].splits


def test_a_random_draw_has_no_regard_to_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{class_name}/{number:02}.avi" for class_name in "abcde" for number in range(20)))
    per_class = Counter()
    for seed in range(5):
        found = labelled_clips(tmp_path, SplitOptions(draw="random", test_fraction=0.1, seed=seed))
        assert Counter(found.splits["drawn"]) == {1: 90, 2: 10}
        tests = Counter(
            label for label, mark in zip(found.labels, found.splits["drawn"], strict=True) if mark == 2
        )
        per_class[tuple(tests[label] for label in range(5))] += 1
    assert len(per_class) > 1  # a stratified draw is 2, 2, 2, 2, 2 every time


def test_a_random_draw_that_leaves_a_class_nothing_to_train_with_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.avi", *(f"many/{number}.avi" for number in range(4)))
    fine, bad = (SplitOptions(draw="random", test_fraction=0.2, seed=seed) for seed in (0, 1))
    assert by_clip(labelled_clips(tmp_path, fine), "drawn")["one/a.avi"] == 1
    with pytest.raises(
        OptionsError, match="with seed 1 leaves one no clip to train with; take another `seed`"
    ):
        labelled_clips(tmp_path, bad)


def test_a_draw_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "run/b.avi", "walk/a.avi")
    with pytest.raises(OptionsError, match="draw is 'even'; expected"):
        labelled_clips(tmp_path, SplitOptions(draw="even"))  # type: ignore[arg-type]


def test_one_clip_a_class_leaves_nothing_to_test_with(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.avi", "walk/a.avi")
    with pytest.raises(DataError, match="split 'drawn' marks none of the 2 clips for testing"):
        labelled_clips(tmp_path, DRAWN)


def test_a_manifest_gives_clips_labels_and_its_split(tmp_path: Path) -> None:
    touch(tmp_path, "z/1.avi", "a/2.flv", "a/3.avi")
    lines = (
        "path,label,split",
        "z/1.avi,walk,train",
        "a/3.avi,run,unused",
        "gone.avi,run,1",
        "a/2.flv,walk,test",
    )
    found = labelled_clips(write_manifest(tmp_path, *lines), DRAWN)
    assert found == LabelledClips(
        root=tmp_path,
        class_names=["run", "walk"],
        clips=["a/3.avi", "a/2.flv", "z/1.avi"],
        labels=[0, 1, 1],
        splits={"manifest": [0, 2, 1]},
        split="manifest",
        missing=["gone.avi"],
        unlisted=[],
    )


def test_a_split_drawn_for_a_manifest_is_that_of_its_folders(tmp_path: Path) -> None:
    names = [f"{class_name}/{number}.avi" for class_name in ("run", "walk") for number in range(6)]
    touch(tmp_path, *names)
    manifest = write_manifest(
        tmp_path, "label,path", *(f"{name.split('/')[0]},{name}" for name in reversed(names))
    )
    for options in (DRAWN, SplitOptions(draw="random", seed=2)):
        assert labelled_clips(manifest, options) == labelled_clips(tmp_path, options)


def test_a_manifest_without_a_split_takes_split_files(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.avi", "all/b.avi", "all/c.avi")
    manifest = write_manifest(tmp_path, "path,label", "all/a.avi,run", "all/b.avi,run", "all/c.avi,walk")
    options = write_splits(
        tmp_path / "splits", run_test_split1="b.avi 1,gone.avi 1", walk_test_split1="c.avi 2"
    )
    found = labelled_clips(manifest, options)
    assert (found.splits, found.missing, found.unlisted) == (
        {"1": [0, 1, 2]},
        ["run/gone.avi"],
        ["all/a.avi"],
    )
    with pytest.raises(
        OptionsError, match=r"clips\.csv has a column split; leave out either that or `splits="
    ):
        labelled_clips(write_manifest(tmp_path, "path,label,split", "all/a.avi,run,1"), options)


def test_classes_of_a_manifest_are_chosen_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.avi" for number in range(6)))
    rows = [f"{number}.avi,{'abc'[number % 3]}" for number in range(6)]
    manifest = write_manifest(tmp_path, "path,label", *rows, "gone a.avi,a", "gone b.avi,b")
    found = labelled_clips(manifest, SplitOptions(classes=("c", "a")))
    assert (found.class_names, found.missing) == (["a", "c"], ["gone a.avi"])
    assert found.clips == ["0.avi", "3.avi", "2.avi", "5.avi"]
    with pytest.raises(OptionsError, match="no clips of the classes d; it has a, b, c"):
        labelled_clips(manifest, SplitOptions(classes=("c", "d")))
    with pytest.raises(DataError, match=r"clips\.csv has clips of only one class \(a\)"):
        labelled_clips(write_manifest(tmp_path, "path,label", "0.avi,a", "gone.avi,b"), DRAWN)


def test_a_folder_may_be_called_as_a_manifest(tmp_path: Path) -> None:
    touch(tmp_path / "clips.csv", "run/a.avi", "run/b.avi", "walk/a.avi")
    assert labelled_clips(tmp_path / "clips.csv", DRAWN).class_names == ["run", "walk"]


def test_what_is_no_data_set_is_told_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "clip.avi").write_bytes(b"x")
    with pytest.raises(DataError, match=r"clip\.avi is a file of no known kind; expected a folder .* \.npz"):
        labelled_clips(tmp_path / "clip.avi", SplitOptions())
    with pytest.raises(
        DataError, match=r"videos but no class folders \(is it a class itself\? then name the"
    ):
        labelled_clips(tmp_path, SplitOptions())
