from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_ranks import RunMain

from preprocess.backbones import load_backbone
from preprocess.clips import SplitOptions
from preprocess.decode import DecodeError, decode_clip
from preprocess.extract import ExtractOptions, extract
from preprocess.pipeline import Sampling
from preprocess.unseen import backbone_from_options, features_of_clips
from seqbraid.cli import preprocess as command
from seqbraid.cli.main import main
from seqbraid.comm import SingleProcess
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError, OptionsError

SAMPLING = Sampling(frames=6, size=32)
OPTIONS = ExtractOptions(backbone="squeezenet1_1", weights="random:0", layer="pool", sampling=SAMPLING)
ARGUMENTS = shlex.split("--backbone squeezenet1_1 --weights random:0 --layer pool --frames 6 --size 32")
FILES = ("store.json", "features.npy", "lengths.npy", "checksums.npy", "failed.json")


def run_extract(videos: Path, out: Path, **changes: object) -> FeatureStore:
    sampling = {key: changes.pop(key) for key in ("frames", "size", "stride") if key in changes}
    splits = {key: changes.pop(key) for key in ("splits", "split", "seed") if key in changes}
    parts = {"sampling": replace(SAMPLING, **sampling), "splits": SplitOptions(**splits)}
    return extract(videos, out, replace(OPTIONS, **parts, **changes), SingleProcess())


def contents(store: Path) -> dict[str, bytes]:
    return {name: (store / name).read_bytes() for name in FILES}


def keep_frames(path: Path, count: int) -> None:
    """Cut an .avi off before frame number `count`, as a broken transfer would."""
    data = path.read_bytes()
    position = data.index(b"movi")
    for _ in range(count + 1):
        position = data.index(b"00dc", position + 1)
    path.write_bytes(data[:position])


def test_the_store_holds_what_a_plain_loop_computes(videos: Path, tmp_path: Path) -> None:
    run_extract(videos, tmp_path / "out")
    store = FeatureStore.open(tmp_path / "out")
    assert store.class_names == ["jump", "wave"]
    assert store.clips == [
        *("jump/clip 0.avi", "jump/clip 2.avi", "jump/clip 4.avi"),
        *("wave/clip 1.avi", "wave/clip 3.avi", "wave/clip 5.avi"),
    ]
    assert store.lengths.tolist() == [3, 5, 6, 4, 6, 6]  # files of 3, 5, 7 and 4, 6, 8 frames, six kept
    assert store.features.shape == (6, 6, 512)
    backbone = load_backbone("squeezenet1_1", "random:0", "pool")
    for index, clip in enumerate(store.clips):
        length = store.lengths[index]
        expected = backbone.features(decode_clip(videos / clip, 6, 32).frames)
        np.testing.assert_array_equal(store.features[index, :length], expected)
        assert not store.features[index, length:].any()
    assert store.options == {**backbone.describe(), "frames": 6, "size": 32, "stride": 1}


def test_split_files_decide_and_strays_are_warned_of(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "splits").mkdir()
    (videos / "splits" / "jump_test_split2.txt").write_text("clip 0.avi 1 \nclip 2.avi 2 \nclip 99.avi 1 \n")
    (videos / "splits" / "wave_test_split2.txt").write_text("clip 1.avi 2 \nclip 3.avi 1 \nclip 5.avi 0 \n")
    store = run_extract(videos, tmp_path / "out", splits=videos / "splits")
    assert (store.split_names, store.split) == (["2"], "2")
    assert store.splits.tolist() == [1, 2, 0, 2, 1, 0]
    said = capsys.readouterr()
    assert f"1 clips are named and not there; {tmp_path / 'out' / 'missing.txt'} lists them" in said.err
    assert "  jump/clip 99.avi\n" in said.err
    assert (tmp_path / "out" / "missing.txt").read_text() == "jump/clip 99.avi\n"
    assert "split 2 2 train, 2 test, 2 unused" in said.out


def test_new_splits_keep_the_features(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_extract(videos, tmp_path / "out")
    before = (tmp_path / "out" / "features.npy").stat().st_mtime_ns
    capsys.readouterr()
    again = run_extract(videos, tmp_path / "out", seed=3)
    assert again.splits.tolist() != first.splits.tolist()
    assert "the features are kept, the splits become those asked for now" in capsys.readouterr().out
    assert (tmp_path / "out" / "features.npy").stat().st_mtime_ns == before
    run_extract(videos, tmp_path / "whole", seed=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_videos_that_moved_are_found_where_they_are_now(videos: Path, tmp_path: Path) -> None:
    run_extract(videos, tmp_path / "out")
    store = run_extract(videos.rename(tmp_path / "elsewhere"), tmp_path / "out")
    assert store.source == str(tmp_path / "elsewhere")


def test_damaged_clips_are_done_again_when_asked(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_extract(videos, tmp_path / "out")
    whole = contents(tmp_path / "out")
    data = bytearray(whole["features.npy"])
    data[-100] ^= 4
    (tmp_path / "out" / "features.npy").write_bytes(data)
    run_extract(videos, tmp_path / "out")
    assert contents(tmp_path / "out") != whole
    run_extract(videos, tmp_path / "out", check=True)
    assert "1 clips do not match their checksums and are done again" in capsys.readouterr().out
    assert contents(tmp_path / "out") == whole


def test_a_stride_takes_every_so_manyth_frame(videos: Path, tmp_path: Path) -> None:
    store = run_extract(videos, tmp_path / "out", stride=3)
    assert store.lengths.tolist() == [1, 2, 3, 2, 2, 3]  # of files of 3, 5, 7, 4, 6, 8 frames
    every = run_extract(videos, tmp_path / "every", frames=8)
    for index, length in enumerate(store.lengths):
        np.testing.assert_array_equal(store.features[index, :length], every.features[index, : 3 * length : 3])


def test_half_precision_rounds_the_same_features(videos: Path, tmp_path: Path) -> None:
    single = run_extract(videos, tmp_path / "single")
    half = run_extract(videos, tmp_path / "half", dtype="float16")
    np.testing.assert_array_equal(half.features, single.features.astype(np.float16))
    with pytest.raises(DataError, match="dtype float16, now asked for float32"):
        run_extract(videos, tmp_path / "half")


def test_file_names_that_are_not_text(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "wave/" + os.fsdecode(b"#1 (caf\xe9) & b.avi")
    (videos / "wave" / "clip 1.avi").rename(videos / odd)
    (videos / "jump" / os.fsdecode(b"\xff.avi")).write_bytes(b"")
    store = run_extract(videos, tmp_path / "out")
    assert odd in store.clips
    assert store.lengths[store.clips.index(odd)] == 4
    assert FeatureStore.open(tmp_path / "out").clips == store.clips
    assert "  jump/\\udcff.avi: the file is empty\n" in capsys.readouterr().err


def test_clips_that_fail_are_left_out_and_listed(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (videos / "jump" / "clip 2.avi").write_bytes(b"")
    (videos / "wave" / "clip 3.avi").write_text("text")
    keep_frames(videos / "wave" / "clip 5.avi", 4)
    store = run_extract(videos, tmp_path / "out")
    assert (store.lengths == 0).tolist() == [False, True, False, False, True, False]
    assert store.failures() == {
        "jump/clip 2.avi": "the file is empty",
        "wave/clip 3.avi": "cannot be opened as a video",
    }
    said = capsys.readouterr()
    assert "2 of 6 clips could not be decoded" in said.err
    assert "  jump/clip 2.avi: the file is empty\n" in said.err
    assert "warning: wave/clip 5.avi: 4 of 6 frames decoded\n" in said.err
    assert f"4 of 6 clips are in {tmp_path / 'out'}" in said.out
    assert len(FeatureStore.open(tmp_path / "out").pending()) == 0


def test_strict_ends_at_the_first_clip_that_fails(videos: Path, tmp_path: Path) -> None:
    (videos / "jump" / "clip 2.avi").write_bytes(b"")
    with pytest.raises(DecodeError, match=r"clip 2\.avi: the file is empty"):
        run_extract(videos, tmp_path / "out", strict=True)
    with pytest.raises(DataError, match=r"incomplete: \d of 6"):
        FeatureStore.open(tmp_path / "out")


def test_a_data_set_without_one_good_clip_is_an_error(videos: Path, tmp_path: Path) -> None:
    for path in videos.glob("*/*.avi"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"every clip of .* failed; the first: jump/clip 0\.avi: the file is"):
        run_extract(videos, tmp_path / "out")


def test_a_mended_clip_is_tried_again(videos: Path, tmp_path: Path) -> None:
    whole = (videos / "jump" / "clip 2.avi").read_bytes()
    (videos / "jump" / "clip 2.avi").write_bytes(b"")
    assert run_extract(videos, tmp_path / "out").lengths[1] == 0
    (videos / "jump" / "clip 2.avi").write_bytes(whole)
    store = run_extract(videos, tmp_path / "out")
    assert store.lengths[1] == 5
    assert store.failures() == {}


def test_a_killed_job_ends_with_the_same_bytes(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_extract(videos, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    store = FeatureStore.open(tmp_path / "killed")
    (tmp_path / "killed" / "failed.json").unlink()
    lengths = np.load(tmp_path / "killed" / "lengths.npy", mmap_mode="r+")
    features = np.load(tmp_path / "killed" / "features.npy", mmap_mode="r+")
    lengths[[1, 4]] = -1
    features[1] = 0  # not begun
    features[4, 3:] = 0  # cut off while it was written
    lengths.flush()
    features.flush()
    with pytest.raises(DataError, match="2 of 6 clips are pending"):
        FeatureStore.open(store.folder)
    capsys.readouterr()
    run_extract(videos, tmp_path / "killed")
    assert "4 there already" in capsys.readouterr().out
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"layer": "logits"}, "layer pool, now asked for logits"),
        ({"weights": "random:1"}, r"other weights \(random:0 then, random:1 now\)"),
        ({"backbone": "resnet18"}, "backbone squeezenet1_1, now asked for resnet18"),
        ({"frames": 7}, "frames 6, now asked for 7"),
        ({"size": 33}, "size 32, now asked for 33"),
        ({"stride": 2}, "stride 1, now asked for 2"),
    ],
)
def test_a_store_made_with_other_options_is_not_continued(
    videos: Path, tmp_path: Path, changes: dict[str, object], difference: str
) -> None:
    run_extract(videos, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=f"made with {difference}.*; choose another folder or delete it"):
        run_extract(videos, tmp_path / "out", **changes)
    assert contents(tmp_path / "out") == before


def test_a_store_of_other_clips_is_not_continued(videos: Path, tmp_path: Path) -> None:
    run_extract(videos, tmp_path / "out")
    shutil.copy(videos / "jump" / "clip 0.avi", videos / "jump" / "new.avi")
    with pytest.raises(DataError, match=r"other clips \(6 then, 7 now; 'jump/new\.avi' is one"):
        run_extract(videos, tmp_path / "out")


def test_the_same_weights_from_elsewhere_continue_a_store(videos: Path, tmp_path: Path) -> None:
    from preprocess.torchvision_loading import import_torchvision

    run_extract(videos, tmp_path / "out")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(import_torchvision().models.squeezenet1_1().state_dict(), tmp_path / "w.pth")
    run_extract(videos, tmp_path / "out", weights=str(tmp_path / "w.pth"))


def test_the_backbone_of_a_store_is_found_again(videos: Path, tmp_path: Path) -> None:
    store = run_extract(videos, tmp_path / "out")
    backbone = backbone_from_options(store.options)
    paths = [videos / store.clips[index] for index in (2, 0)]
    arrays = features_of_clips(paths, backbone, Sampling.of(store.options))
    assert [array.shape for array in arrays] == [(6, 512), (3, 512)]
    np.testing.assert_array_equal(arrays[0], store.features[2])
    np.testing.assert_array_equal(arrays[1], store.features[0, :3])


def test_other_weights_than_the_stores_are_refused(tmp_path: Path) -> None:
    options = load_backbone("squeezenet1_1", "random:0").describe()
    other = load_backbone("squeezenet1_1", "random:1").weights_sha256
    with pytest.raises(DataError, match=rf"{other}.*{options['weights_sha256']}.*`weights`"):
        backbone_from_options(options, weights="random:1")
    gone = options | {"weights": str(tmp_path / "gone.pth")}
    with pytest.raises(DataError, match=r"gone\.pth are gone; .*`weights`"):
        backbone_from_options(gone)
    assert backbone_from_options(gone, weights="random:0").weights_sha256 == options["weights_sha256"]
    with pytest.raises(DataError, match="come from no backbone"):
        backbone_from_options({"columns": 9})


def test_clips_in_memory_log_what_ended_early(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = videos / "wave" / "clip 5.avi"
    keep_frames(path, 5)
    backbone = load_backbone("squeezenet1_1", "random:0")
    features_of_clips([path], backbone, Sampling(100, 32))
    assert caplog.messages == [f"{path}: 5 of 8 frames decoded"]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_command_does_what_extract_does(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run(parse(str(videos), str(tmp_path / "out"), *ARGUMENTS))
    assert "random weights, seed 0: features are untrained" in capsys.readouterr().out
    run_extract(videos, tmp_path / "expected")
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


@pytest.mark.parametrize(
    "arguments", ["--frames 0", "--frames x", "--size 8", "--test-fraction 1", "--threads 0", "--layer conv"]
)
def test_values_out_of_range_end_in_the_parser(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("videos", "out", *arguments.split())
    assert arguments.split()[0] in capsys.readouterr().err


def test_the_command_lists_the_backbones_there_are() -> None:
    from preprocess.backbones import LAYERS
    from preprocess.clips import SUBSETS
    from preprocess.networks import BACKBONES
    from seqbraid.data.store import DTYPES

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert ", ".join(BACKBONES) in " ".join(parser.format_help().split())
    assert (choices["layer"], choices["subset"], choices["dtype"]) == (LAYERS, tuple(SUBSETS), DTYPES)


def test_two_ranks_write_the_bytes_of_one(videos: Path, tmp_path: Path, run_main: RunMain) -> None:
    (videos / "jump" / "clip 2.avi").write_bytes(b"")
    assert main(["preprocess", str(videos), str(tmp_path / "one"), *ARGUMENTS]) == 0
    done = run_main(2, "preprocess", str(videos), str(tmp_path / "two"), *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert "2 ranks" in done.stdout
    assert done.stdout.count("clips are in") == 1


def test_help_does_not_wait_for_torchvision() -> None:
    script = """
import sys, seqbraid.cli.preprocess
print([name for name in ("torchvision", "cv2") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("videos out --splits splits --seed 1", "splits divides the clips; leave --seed out"),
        ("videos out --splits splits --draw random", "splits divides the clips; leave --draw out"),
        ("arrays.npz out --size 64", r"arrays\.npz holds sequences, not videos; leave --size out"),
        ("arrays.npz out --strict", r"arrays\.npz holds sequences, not videos; leave --strict out"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(arguments: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        command.run(parse(*arguments.split()))


def test_a_store_that_needs_nothing_says_so(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_extract(videos, tmp_path / "out")
    capsys.readouterr()
    run_extract(videos, tmp_path / "out", check=True)
    said = capsys.readouterr().out
    assert "every clip that is there matches its checksum" in said
    assert f"nothing new; 6 of 6 clips are in {tmp_path / 'out'}" in said
