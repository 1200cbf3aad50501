"""The latest states of a training, each a file from which it can go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqbraid.errors import DataError, OptionsError
from seqbraid.files import write_bytes
from seqbraid.train.sealed import from_bytes, to_bytes

__all__ = ["Checkpoints"]

_NAME = "update-{:09d}.pt"


class Checkpoints:
    """A folder of the last `keep` checkpoints, named after the updates that were done when they were made.

    One process writes and reads them.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, updates: int, content: dict[str, Any]) -> None:
        """Write a checkpoint, then delete those that are too many."""
        data = to_bytes(content)
        self.folder.mkdir(exist_ok=True)
        write_bytes(self.folder / _NAME.format(updates), data)
        cut_off = self.folder.glob("*.new")
        for path in [*self._newest_first()[self.keep :], *cut_off]:
            path.unlink(missing_ok=True)

    def latest(self, warn: Callable[[str], None]) -> bytes | None:
        """Return the newest checkpoint that is whole, as `sealed.to_bytes` made it; None where there is none.

        A damaged one is deleted, after `warn` was told, so that it counts among those kept no longer.
        """
        for path in self._newest_first():
            data = path.read_bytes()
            try:
                from_bytes(data, str(path))
            except DataError as error:
                warn(f"{error}; it is deleted, and the one before it is tried")
                path.unlink()
                continue
            return data
        return None

    def clear(self) -> None:
        """Delete all."""
        for path in self._newest_first():
            path.unlink()

    def updates(self) -> list[int]:
        """Return after how many updates the checkpoints were made, damaged ones too, oldest first."""
        numbers = (path.stem.partition("-")[2] for path in self._newest_first())
        return sorted(int(number) for number in numbers if number.isdigit())

    def require_room(self, size: int) -> None:
        """Raise `OptionsError` where the disk has no room for all checkpoints of `size` bytes."""
        # Those kept, one under its temporary name, and the weights of the last and the best epoch.
        needed, free = (self.keep + 3) * size, shutil.disk_usage(self.folder.parent).free
        # Those that are there already give way to the new ones.
        if free + sum(path.stat().st_size for path in self._newest_first()) < needed:
            raise OptionsError(
                f"{self.folder} has {free / 1e6:.1f} MB free, but {self.keep} checkpoints and the weights "
                f"need {needed / 1e6:.1f}; make room there, or choose another `output`"
            )

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("update-*.pt"), reverse=True)
