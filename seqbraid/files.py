"""Files written in one step."""

from __future__ import annotations

import os
from pathlib import Path

from seqbraid.errors import OptionsError

__all__ = ["require_place", "write_bytes", "write_text"]


def require_place(path: Path, parameter: str) -> None:
    """Raise `OptionsError` where the file `path`, given as `parameter`, could not be written."""
    if not path.parent.is_dir():
        raise OptionsError(f"`{parameter}={path}`: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise OptionsError(f"`{parameter}={path}` is a folder; name a file")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file to a temporary name and rename it: readers see the old one or the new one, whole.

    On return it is on the disk. An `OSError` leaves the old one, and no temporary file that fills the disk.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(temporary)  # which a full disk's error does not name
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_bytes` does."""
    write_bytes(path, text.encode())


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too; Windows has no such thing, and needs none."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
