from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from seqbraid.messages import messages_shown

MakeVideo = Callable[..., Path]


@pytest.fixture(autouse=True)
def messages() -> Iterator[None]:
    """Show what is logged as the command line does."""
    with messages_shown():
        yield


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Return a function that writes an MJPG .avi whose frames differ from each other and by seed."""

    def make(name: str, frames: int = 6, size: tuple[int, int] = (48, 40), seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, size)
        assert writer.isOpened()
        random = np.random.default_rng(seed)
        for _ in range(frames):
            coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            writer.write(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))
        writer.release()
        return path

    return make


@pytest.fixture
def videos(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Return a data set of two classes with three clips each, of 3 to 8 frames."""
    for number in range(6):
        class_name = ("jump", "wave")[number % 2]
        make_video(f"videos/{class_name}/clip {number}.avi", frames=3 + number, seed=number)
    return tmp_path / "videos"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data, or skip."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SEQBRAID_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set SEQBRAID_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def squeezenet_weights(shared_data: Path) -> Path:
    """Return a file of real ImageNet weights of squeezenet1_1, or skip."""
    path = shared_data / "weights" / "squeezenet1_1_torchvision.pth"
    if not path.is_file():
        pytest.skip(f"no weights at {path}")
    return path
