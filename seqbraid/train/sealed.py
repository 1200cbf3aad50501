"""Tensors and plain values in a file with a checksum of them all, as `torch.save` writes it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqbraid.errors import DataError
from seqbraid.files import write_bytes

__all__ = ["from_bytes", "read_sealed", "to_bytes", "write_sealed"]

_SEAL = "sha256"


def to_bytes(content: dict[str, Any]) -> bytes:
    """Return a file of tensors, numbers, texts, lists and dicts, with their checksum under "sha256"."""
    buffer = io.BytesIO()
    torch.save({**content, _SEAL: _digest(content)}, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes, name: str) -> dict[str, Any]:
    """Return what `to_bytes` was given; raises `DataError` that names `name` where it is damaged."""
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # Garbage makes torch.load raise almost anything, and its advice is to load unsafely.
        raise DataError(f"{name} is damaged (not a file of tensors)") from error
    if not isinstance(content, dict):
        raise DataError(f"{name} is damaged (it holds a {type(content).__name__})")
    if content.pop(_SEAL, None) != _digest(content):
        raise DataError(f"{name} is damaged (its checksum does not match)")
    return content


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one step; see `to_bytes`."""
    write_bytes(path, to_bytes(content))


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file that `write_sealed` wrote; raises `DataError` where it is damaged."""
    return from_bytes(path.read_bytes(), str(path))


def _digest(content: Any) -> str:
    sha256 = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            sha256.update(f"{value.dtype}{tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha256.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            sha256.update(f"dict {len(value)}".encode())
            for key, each in value.items():
                sha256.update(repr(key).encode())
                add(each)
        elif isinstance(value, (list, tuple)):
            sha256.update(f"list {len(value)}".encode())
            for each in value:
                add(each)
        else:
            sha256.update(repr(value).encode())

    add(content)
    return sha256.hexdigest()
