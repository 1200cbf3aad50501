from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqbraid.cli.main import main

Arrays = dict[str, Any]


def make_arrays(steps: int = 6, classes: int = 3) -> Arrays:
    """Return a small data set: 12 training and 6 test sequences of 2 features."""
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(12, steps, 2)).astype(np.float32),
        "y_train": np.arange(12) % classes,
        "x_test": random.normal(size=(6, steps, 2)).astype(np.float32),
        "y_test": np.arange(6) % classes,
    }


@pytest.fixture
def write_arrays(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the small data set, with changes, as an .npz file."""

    def write(name: str = "data.npz", steps: int = 6, **changes: object) -> Path:
        arrays = {key: value for key, value in {**make_arrays(steps), **changes}.items() if value is not None}
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a run of one epoch and its data; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    np.savez(folder / "data.npz", **make_arrays())
    arguments = ["train", str(folder / "data.npz"), "--output", str(folder / "run")]
    assert main([*arguments, "--epochs", "1", "--hidden-size", "4"]) == 0
    return folder / "run", folder / "data.npz"


@pytest.fixture
def run_copy(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Return a copy of the run to be damaged, and its data."""
    shutil.copytree(trained[0], tmp_path / "run")
    return tmp_path / "run", trained[1]
