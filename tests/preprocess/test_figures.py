"""The embedded data set: its files, its determinism, and that a single frame does not give a class away."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess import figures
from seqbraid.errors import DataError, OptionsError

CLIPS, FRAMES, SIZE = 3, 12, 48


def decode(path: Path) -> np.ndarray:
    reader = cv2.VideoCapture(str(path))
    images = []
    while True:
        found, image = reader.read()
        if not found:
            return np.stack(images)
        images.append(image)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def generate(root: Path, **options: int) -> bool:
    return figures.generate(
        root, **{"clips_per_class": CLIPS, "frames": FRAMES, "size": SIZE, **options}, progress=False
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("figures") / "new" / "data"
    assert generate(root)
    return root


def test_layout(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == sorted([*figures.CLASSES, "figures.json"])
    for label in figures.CLASSES:
        assert sorted(path.name for path in (root / label).iterdir()) == [
            f"{label}_{number:03d}.avi" for number in range(CLIPS)
        ]


def test_clips_decode_to_the_drawn_frames_and_have_unequal_lengths(root: Path) -> None:
    lengths = set()
    for path in root.glob("*/*.avi"):
        number = int(path.stem.rsplit("_", 1)[1])
        drawn = figures.clip_frames(path.parent.name, number, FRAMES, SIZE)
        decoded = decode(path)
        assert decoded.shape == drawn.shape == (len(drawn), SIZE, SIZE, 3)
        # The loss of the JPEG coding; a frame apart or swapped channels make it far larger.
        assert np.abs(decoded.astype(float) - drawn).mean() < 4.0
        lengths.add(len(drawn))
    assert min(lengths) >= FRAMES * 2 // 3
    assert max(lengths) <= FRAMES
    assert len(lengths) >= 3


def test_a_seed_gives_the_same_files_and_another_seed_gives_others(root: Path, tmp_path: Path) -> None:
    generate(tmp_path / "same")
    generate(tmp_path / "other", seed=1)
    first, same, other = contents(root), contents(tmp_path / "same"), contents(tmp_path / "other")
    assert first == same
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_a_clip_does_not_depend_on_how_many_are_drawn(root: Path, tmp_path: Path) -> None:
    generate(tmp_path, clips_per_class=1)
    fewer = contents(tmp_path)
    assert all(contents(root)[name] == data for name, data in fewer.items() if name.endswith(".avi"))


def test_a_finished_data_set_is_left_alone(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert not generate(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_an_interrupted_data_set_is_carried_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(path: Path, images: np.ndarray) -> None:
        calls.append(path)
        if len(calls) == 5:
            path.write_bytes(b"half a clip")
            raise KeyboardInterrupt
        written(path, images)

    written = figures.write_video
    monkeypatch.setattr(figures, "write_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path)
    assert len(list(tmp_path.rglob("*.avi"))) == 4
    assert not json.loads((tmp_path / "figures.json").read_text())["complete"]
    assert generate(tmp_path)
    assert len(calls) == 5 + len(figures.CLASSES) * CLIPS - 4
    assert contents(tmp_path) == contents(root)


def test_a_removed_clip_is_drawn_again(root: Path, tmp_path: Path) -> None:
    generate(tmp_path)
    (tmp_path / "rise" / "rise_001.avi").unlink()
    assert generate(tmp_path)
    assert contents(tmp_path) == contents(root)


def test_figures_of_other_options_are_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"seed 0, not 3.*another folder"):
        generate(root, seed=3)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        generate(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        generate(tmp_path / "notes.txt")
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("record", ["{", "[]"])
def test_a_damaged_record_is_refused(tmp_path: Path, record: str) -> None:
    (tmp_path / "figures.json").write_text(record)
    with pytest.raises(DataError, match="remove"):
        generate(tmp_path)


@pytest.mark.parametrize("option", [{"frames": 2}, {"size": 8}, {"clips_per_class": 0}, {"seed": -1}])
def test_impossible_options_are_refused(tmp_path: Path, option: dict[str, int]) -> None:
    with pytest.raises(OptionsError, match=next(iter(option))):
        generate(tmp_path / "out", **option)
    assert not (tmp_path / "out").exists()


def test_a_video_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        figures.write_video(tmp_path / "absent" / "clip.avi", figures.clip_frames("rise", 0, 6, 32))


@pytest.mark.parametrize(
    ("forward", "backward"), [("run_right", "run_left"), ("hop_right", "hop_left"), ("fall", "rise")]
)
def test_opposite_classes_hold_the_same_frames_in_opposite_order(forward: str, backward: str) -> None:
    for seed in range(5):
        one = figures.draw_clip(np.random.default_rng(seed), forward, FRAMES, SIZE)
        other = figures.draw_clip(np.random.default_rng(seed), backward, FRAMES, SIZE)
        np.testing.assert_array_equal(one, other[::-1])


@pytest.mark.parametrize(
    ("label", "axis", "sign"),
    [
        ("run_right", 1, 1),
        ("hop_right", 1, 1),
        ("run_left", 1, -1),
        ("hop_left", 1, -1),
        ("fall", 0, 1),
        ("rise", 0, -1),
    ],
)
def test_the_figure_moves_as_its_class_says(label: str, axis: int, sign: int) -> None:
    for number in range(5):
        images = figures.clip_frames(label, number, FRAMES, SIZE)
        centres = [np.argwhere(image.max(axis=-1) > 0.5 * image.max()).mean(axis=0)[axis] for image in images]
        assert sign * (centres[-1] - centres[0]) > 0.35 * SIZE


def accuracy(inputs: np.ndarray, labels: np.ndarray, training: np.ndarray) -> float:
    """Return the share of the clips not trained on that ridge regression on `inputs` labels right."""
    inputs = inputs - inputs[training].mean(axis=0)
    kernel = inputs @ inputs.T
    ridge = 0.01 * np.trace(kernel) / len(kernel) * np.eye(training.sum())
    targets = np.eye(len(figures.CLASSES))[labels[training]]
    scores = kernel[:, training] @ np.linalg.solve(kernel[np.ix_(training, training)] + ridge, targets)
    return float((scores.argmax(axis=1) == labels)[~training].mean())


def test_a_single_frame_does_not_give_the_class_away() -> None:
    clips = 50
    labels = np.repeat(np.arange(len(figures.CLASSES)), clips)
    training = np.tile(np.arange(clips) < 30, len(figures.CLASSES))
    rng = np.random.default_rng(0)
    single, ordered = [], []
    for label in figures.CLASSES:
        for number in range(clips):
            images = figures.clip_frames(label, number, 6, 32)
            pixels = np.stack([cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) for image in images])
            flat = pixels.reshape(len(images), -1).astype(float)
            single.append(flat[rng.integers(len(flat))])
            ordered.append(flat[[0, 1, -2, -1]].reshape(-1))
    # Guessing gives 1/8. The same probe on frames in their order does far better: the probe is able enough.
    assert accuracy(np.stack(single), labels, training) < 0.25
    assert accuracy(np.stack(ordered), labels, training) > 0.5


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(tmp_path / "out"), "--clips-per-class", "1", "--frames", "6", "--size", "32"]
    assert figures.main(command) == 0
    assert "8 clips of 8 classes written" in capsys.readouterr().out
    assert len(list((tmp_path / "out").glob("*/*.avi"))) == 8
    assert figures.main(command) == 0
    assert "8 clips of 8 classes there already" in capsys.readouterr().out
    assert figures.main([*command, "--seed", "2"]) == 2


def test_command_line_reports_errors_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main([str(tmp_path / "out"), "--size", "4"]) == 2
    assert capsys.readouterr().err == (
        "python -m preprocess.figures: error: size: 4 is too small; take 32 or more\n"
    )
