from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from script_modules import load_script

from preprocess.backbones import load_backbone
from preprocess.decode import DecodeError, decode_clip
from preprocess.decoder import Decoder
from preprocess.extract import ExtractOptions, extract
from preprocess.figures import clip_frames, write_video
from preprocess.pipeline import Sampling
from seqbraid.cli.main import main
from seqbraid.comm import SingleProcess

damage = load_script("damage")

FRAMES, SIZE = 8, 32
OPTIONS = ExtractOptions(
    backbone="squeezenet1_1", weights="random:0", layer="pool", sampling=Sampling(FRAMES, SIZE)
)


def write_mp4(path: Path, images: np.ndarray) -> bool:
    """Write the frames as MPEG-4; False where this OpenCV cannot."""
    height, width = images.shape[1:3]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (width, height)
    )
    if not writer.isOpened():
        return False
    for image in images:
        writer.write(image)
    writer.release()
    return True


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Return two drawn clips as motion JPEG, and as MPEG-4 where this OpenCV can write it."""
    (tmp_path / "clips").mkdir()
    for number, label in enumerate(("hop", "pace")):
        images = clip_frames(label, number, frames=15, size=64)
        write_video(tmp_path / "clips" / f"{label}.avi", images)
        if not write_mp4(tmp_path / "clips" / f"{label}.mp4", images):
            (tmp_path / "clips" / f"{label}.mp4").unlink(missing_ok=True)
    return sorted((tmp_path / "clips").iterdir())


@pytest.fixture
def damaged_videos(clips: list[Path], tmp_path: Path) -> dict[str, str]:
    """Write two classes with the intact clips and 20 damaged ones into `videos`; return {clip: kind}."""
    kinds = {}
    contents = [("intact", clip, clip.suffix, clip.read_bytes()) for clip in clips]
    contents += damage.damaged_clips(clips, 20, seed=2)
    for number, (kind, clip, suffix, data) in enumerate(contents):
        name = f"{'ab'[number % 2]}/{number:02d} {kind}, {clip.stem}{suffix}"
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(data)
        kinds[name] = kind
    return kinds


def decoders() -> list[int]:
    """Return the ids of the decoders that this process has, and of children that it has not waited for."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and (not words or b"decoder_process" in words):
            found.append(int(entry.name))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_damaged_clips_are_done_or_listed_with_a_reason_and_harm_no_other(
    damaged_videos: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extract(tmp_path / "videos", tmp_path / "out", OPTIONS, SingleProcess())
    said = capsys.readouterr().err.splitlines()
    assert decoders() == []
    assert store.clips == sorted(damaged_videos)
    assert store.pending().tolist() == []
    assert store.damaged() == []
    failures = store.failures()
    assert {store.clips[index] for index in store.failed()} == failures.keys()
    assert 5 < len(failures) < 15
    for clip, reason in failures.items():
        assert reason.strip()
        assert f"  {clip}: {reason}" in said
    backbone = load_backbone("squeezenet1_1", "random:0", "pool")
    for index, clip in enumerate(store.clips):
        kind, length = damaged_videos[clip], store.lengths[index]
        if kind == "zero length":
            assert failures[clip] == "the file is empty"
        elif kind in ("intact", "two files in one", "extension swapped"):
            original = tmp_path / "clips" / clip.partition(", ")[2]
            if kind == "extension swapped":
                original = original.with_suffix(".avi" if original.suffix == ".mp4" else ".mp4")
            expected = backbone.features(decode_clip(original, FRAMES, SIZE).frames)
            np.testing.assert_array_equal(store.features[index, :length], expected)
    before = contents(tmp_path / "out")
    extract(tmp_path / "videos", tmp_path / "out", OPTIONS, SingleProcess())
    assert contents(tmp_path / "out") == before


def test_every_kind_of_damage_gives_frames_or_a_reason_in_one_line(clips: list[Path], tmp_path: Path) -> None:
    given, reasons = dict.fromkeys(damage.DAMAGES, 0), []
    with Decoder(FRAMES, SIZE) as decoder:
        for kind, _, suffix, data in damage.damaged_clips(clips, 300, seed=3):
            path = tmp_path / f"clip{suffix}"
            path.write_bytes(data)
            try:
                frames = list(decoder.clip(path))
            except DecodeError as error:
                reasons.append(str(error).partition(f"{path}: "))
                continue
            assert 1 <= len(frames) <= FRAMES
            assert decoder.warning is None or len(frames) < FRAMES
            given[kind] = given.get(kind, 0) + 1
    assert decoders() == []
    for before, _, reason in reasons:
        assert not before
        assert reason.strip()
        assert "\n" not in reason
    # The rest is not so bad that every clip was lost.
    hopeless = {"zero length", "cut to a few bytes", "huge pictures"}
    assert {kind for kind, count in given.items() if not count} == hopeless


def test_a_cut_clip_keeps_the_frames_before_the_cut(make_video: Callable[..., Path]) -> None:
    path = make_video("a.avi", frames=20)
    data, whole = path.read_bytes(), decode_clip(path, 20, SIZE).frames
    movie = data.index(b"movi")
    starts = [at for at in range(movie, len(data)) if data[at : at + 4] == b"00dc"][:20]
    with Decoder(20, SIZE) as decoder:
        for count in (1, 7, 19):
            path.write_bytes(data[: starts[count]])
            np.testing.assert_array_equal(np.stack(list(decoder.clip(path))), whole[:count])
            assert decoder.warning == f"{count} of 20 frames decoded"


def test_a_manifest_that_leaves_its_folder_is_refused_in_one_line(
    clips: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    manifest = tmp_path / "data" / "clips.csv"
    manifest.write_text("path,label\n../clips/hop.avi,hop\n../clips/pace.avi,pace\n")
    assert main(["preprocess", str(manifest), str(tmp_path / "out"), "--weights", "random:0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"seqbraid preprocess: error: {manifest}")
    assert "../clips/hop.avi" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
