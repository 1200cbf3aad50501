"""Write the embedded data set: labelled clips of simple moving figures, drawn by this module from a seed.

It writes OUT/<class>/<clip>.avi, real video files that are then treated like any other folder of videos.

The classes are motions: a stick figure that runs or hops to the left or right, rises, falls, hops on the
spot or paces to and fro, on a stage lit by three coloured lamps. The figure's place across and down the frame
either rests at a random value, sweeps its range once, or goes to and fro in it; each way covers the range
evenly, so a frame taken at random from a clip looks the same in every class. Opposite classes are the same
motion played forward and backward. Only the order of the frames tells the classes apart: a model has to
follow the sequence.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from seqbraid.errors import DataError, OptionsError, SeqbraidError
from seqbraid.progress import progress_bar

__all__ = ["CLASSES", "clip_frames", "draw_clip", "generate", "main", "write_video"]

Image = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How the figure moves across (x) and down (y) the frame, and whether the clip is played backward."""

    x: str = "rest"
    y: str = "rest"
    backward: bool = False


CLASSES: dict[str, Motion] = {
    "fall": Motion(y="sweep"),
    "hop": Motion(y="wave"),
    "hop_left": Motion(x="sweep", y="wave", backward=True),
    "hop_right": Motion(x="sweep", y="wave"),
    "pace": Motion(x="wave"),
    "rise": Motion(y="sweep", backward=True),
    "run_left": Motion(x="sweep", backward=True),
    "run_right": Motion(x="sweep"),
}

CLIPS_PER_CLASS = 60
FRAMES = 16
SIZE = 64

# Places and lengths are shares of the frame's side.
_ACROSS = (0.15, 0.85)
_DOWN = (0.2, 0.8)
_HEIGHT = (0.4, 0.5)
_WAVES = 3.0  # times to and fro in one clip
_FRAMES_PER_SECOND = 12.0
_OVERSAMPLING = 4
_RECORD = "figures.json"
_VERSION = 1


@dataclass(frozen=True)
class Scene:
    """What stays the same throughout one clip."""

    background: Image
    light: Array
    colour: tuple[int, int, int]
    height: float
    thickness: float
    tilt: float
    arms: float


def generate(
    root: str | os.PathLike[str],
    clips_per_class: int = CLIPS_PER_CLASS,
    frames: int = FRAMES,
    size: int = SIZE,
    seed: int = 0,
    progress: bool = True,
) -> bool:
    """Write the data set to the folder `root`; return False where it was there already, complete.

    A clip has between two thirds of `frames` and `frames` frames of `size` x `size` pixels. An interrupted
    data set is carried on. A folder that holds anything else, or figures of other options, is refused.
    """
    folder = Path(root)
    options = {"clips_per_class": clips_per_class, "frames": frames, "size": size, "seed": seed}
    _check_options(options)
    record: dict[str, Any] = {"version": _VERSION, "classes": list(CLASSES), **options}
    complete = _check_folder(folder, record)
    paths = [
        (label, number, folder / label / f"{label}_{number:03d}.avi")
        for label in CLASSES
        for number in range(clips_per_class)
    ]
    missing = [entry for entry in paths if not entry[2].is_file()]
    if complete and not missing:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    _write_record(folder, {**record, "complete": False})
    for label in CLASSES:
        (folder / label).mkdir(exist_ok=True)
    with progress_bar(len(missing), "figures", "clip", rank=0 if progress else 1) as bar:
        for label, number, path in missing:
            # The temporary file lies beside the class folders, so that it is never taken for a clip.
            temporary = folder / f".{path.stem}.{os.getpid()}.avi"
            try:
                write_video(temporary, clip_frames(label, number, frames, size, seed))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            bar.update()
    _write_record(folder, {**record, "complete": True})
    return True


def clip_frames(label: str, number: int, frames: int = FRAMES, size: int = SIZE, seed: int = 0) -> Image:
    """Return the frames of clip `number` of class `label`; they depend on nothing but the arguments."""
    return draw_clip(np.random.default_rng([seed, list(CLASSES).index(label), number]), label, frames, size)


def draw_clip(rng: np.random.Generator, label: str, frames: int, size: int) -> Image:
    """Return the frames (count, size, size, 3), in BGR, of one clip of class `label`, drawn from `rng`.

    Equal random states give opposite classes the same frames in opposite order.
    """
    motion = CLASSES[label]
    count = int(rng.integers(math.ceil(2 * frames / 3), frames + 1))
    scene = _draw_scene(rng, size)
    rest = {"x": float(rng.uniform()), "y": float(rng.uniform())}
    turn = float(rng.uniform())
    offset = float(rng.uniform())
    stride, pace = float(rng.uniform(0.0, math.tau)), float(rng.uniform(0.3, 0.6))

    def place(axis: str, form: str, share: float) -> float:
        """Return the place in the range of `axis`, from 0 to 1, after a share of the clip."""
        if form == "sweep":
            return share
        if form == "wave":
            return abs(2.0 * ((_WAVES * share + turn) % 1.0) - 1.0)
        return rest[axis]

    images = []
    for step in range(count):
        share = (step + offset) / count
        x = _ACROSS[0] + (_ACROSS[1] - _ACROSS[0]) * place("x", motion.x, share)
        y = _DOWN[0] + (_DOWN[1] - _DOWN[0]) * place("y", motion.y, share)
        images.append(_render(scene, x, y, stride + pace * step))
    return np.stack(images[::-1] if motion.backward else images)


def _draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Return a random background and figure."""
    shade = rng.uniform(32.0, 60.0) + rng.uniform(-5.0, 5.0, 3)
    texture = cv2.resize(rng.uniform(-6.0, 6.0, (6, 6, 3)), (size, size), interpolation=cv2.INTER_CUBIC)
    blue, green, red = (int(channel) for channel in rng.integers(210, 256, 3))
    return Scene(
        background=np.clip(shade + texture, 0.0, 255.0).astype(np.uint8),
        light=_light(size),
        colour=(blue, green, red),
        height=float(rng.uniform(*_HEIGHT)),
        thickness=float(rng.uniform(0.12, 0.14)),
        tilt=float(rng.uniform(-0.15, 0.15)),
        arms=math.radians(rng.uniform(15.0, 165.0)),
    )


def _light(size: int) -> Array:
    """Return how bright each channel (blue, green, red) is over the frame.

    The lamps stand in a triangle around the stage and add up to nearly the same brightness everywhere, so the
    hue of the figure tells where it stands. A network that averages over the frame sees little of the place
    otherwise.
    """
    ramp = np.linspace(-1.0, 1.0, size)
    across, down = np.meshgrid(ramp, ramp)
    lamps = [(-math.sqrt(0.75), 0.5), (0.0, -1.0), (math.sqrt(0.75), 0.5)]
    return np.stack([np.clip(0.5 + 0.5 * (a * across + b * down), 0.0, 1.0) for a, b in lamps], axis=-1)


def _render(scene: Scene, x: float, y: float, stride: float) -> Image:
    """Return one frame; it is drawn large and scaled down, so that motions below a pixel show."""
    size = scene.background.shape[0]
    side = size * _OVERSAMPLING
    height = scene.height * side

    def toward(angle: float) -> Array:
        """Return the direction `angle` radians away from straight down the figure."""
        return np.array([math.sin(angle + scene.tilt), math.cos(angle + scene.tilt)])

    hip = np.array([x * side, y * side + 0.08 * height])
    neck = hip - 0.34 * height * toward(0.0)
    head = neck - 0.13 * height * toward(0.0)
    legs = math.radians(12.0 + 22.0 * math.sin(stride) ** 2)
    limbs = [(hip, neck)]
    for hand in (-1.0, 1.0):
        limbs.append((hip, hip + 0.42 * height * toward(hand * legs)))
        limbs.append((neck, neck + 0.36 * height * toward(hand * scene.arms)))
    canvas = cv2.resize(scene.background, (side, side), interpolation=cv2.INTER_LINEAR)
    for start, end in limbs:
        width = max(1, round(scene.thickness * height))
        cv2.line(canvas, _pixel(start), _pixel(end), scene.colour, width, cv2.LINE_AA)
    cv2.circle(canvas, _pixel(head), round(0.12 * height), scene.colour, -1, cv2.LINE_AA)
    frame = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.rint(frame * scene.light).astype(np.uint8)


def _pixel(point: Array) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def write_video(path: Path, images: Image) -> None:
    """Write the frames as motion JPEG with OpenCV's own encoder, which needs no codec of the system."""
    height, width = images.shape[1:3]
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, codec, _FRAMES_PER_SECOND, (width, height))
    try:
        if not writer.isOpened():
            raise DataError(f"{path}: OpenCV cannot write the video; is the folder writable?")
        writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
        for image in images:
            writer.write(image)
    finally:
        writer.release()
    # The writer says nothing when the disk is full: read the file back.
    reader = cv2.VideoCapture(str(path))
    try:
        count = 0
        while reader.grab():
            count += 1
    finally:
        reader.release()
    if count != len(images):
        raise DataError(f"{path}: {count} of {len(images)} frames were written; is the disk full?")


def _check_options(options: dict[str, int]) -> None:
    smallest = {"clips_per_class": 1, "frames": 6, "size": 32, "seed": 0}
    for name, value in options.items():
        if value < smallest[name]:
            raise OptionsError(f"{name}: {value} is too small; take {smallest[name]} or more")


def _check_folder(folder: Path, record: dict[str, Any]) -> bool:
    """Return whether `folder` holds the data set of `record`, finished; raise where it may not be written."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder for the figures")
    path = folder / _RECORD
    if not path.is_file():
        if any(folder.iterdir()):
            raise DataError(f"{folder}: holds other files; name a new or an empty folder for the figures")
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove {folder} to write it anew") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: is not a record of figures; remove {folder} to write it anew")
    wrong = [name for name, value in record.items() if found.get(name) != value]
    if wrong:
        other = "; ".join(f"{name} {found.get(name)}, not {record[name]}" for name in wrong)
        raise DataError(f"{folder}: holds other figures ({other}); name another folder or remove this one")
    return found.get("complete") is True


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    temporary = folder / f".{_RECORD}.{os.getpid()}"
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / _RECORD)


_EPILOG = f"""\
A finished data set is recognised and left as it is; an interrupted one is carried on. The same options give
the same clips.

classes: {", ".join(CLASSES)}

examples:
  python -m preprocess.figures figures/
  python -m preprocess.figures small/ --clips-per-class 10 --seed 1"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocess.figures",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="folder to write: new, empty, or begun by this command"
    )
    for name, default, text in (
        ("clips-per-class", CLIPS_PER_CLASS, f"clips of each of the {len(CLASSES)} classes"),
        ("frames", FRAMES, "frames of the longest clips; the shortest have two thirds of them"),
        ("size", SIZE, "width and height of a frame in pixels"),
        ("seed", 0, "of all random choices; another seed gives another data set of the same kind"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    options = parser.parse_args(arguments)
    try:
        written = generate(options.out, options.clips_per_class, options.frames, options.size, options.seed)
    except (SeqbraidError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, SeqbraidError) else 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command carries on", file=sys.stderr)
        return 130
    count = options.clips_per_class * len(CLASSES)
    state = "written" if written else "there already"
    print(f"{options.out}: {count} clips of {len(CLASSES)} classes {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
