"""The header of a feature store: one JSON file that guards itself by its sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqbraid.data.disk import damaged_file
from seqbraid.errors import DataError
from seqbraid.files import write_text

__all__ = ["FORMAT_VERSION", "HEADER", "read_header", "require_one_value_a_clip", "write_header"]

FORMAT_VERSION = 2
HEADER = "store.json"


def require_one_value_a_clip(header: Mapping[str, Any]) -> None:
    """Raise `ValueError` where labels, subjects or a split's marks are not as many as the clips."""
    count = len(header["clips"])
    columns = {"labels": header["labels"], "subjects": header["subjects"]}
    columns |= {f"marks of split {name}": marks for name, marks in header["splits"].items()}
    for name, values in columns.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{count} clips, but {len(values)} {name}; expected equal")
    if header["split"] not in header["splits"]:
        raise ValueError(f"no split {header['split']!r} among {', '.join(header['splits']) or 'none'}")
    if header["features"][0] != count:
        raise ValueError(f"{count} clips, but features of {header['features'][0]}")


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """Write a store's header behind its sha256, in one step."""
    text = json.dumps(header)
    write_text(folder / HEADER, f'{{"sha256": "{_sha256(text.encode())}",\n"store": {text}}}\n')


def read_header(folder: Path) -> dict[str, Any]:
    """Read a store's header; raises `DataError` for none, a damaged one and an unknown version."""
    path = folder / HEADER
    try:
        text = path.read_bytes()
        document = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{folder} is not a feature store (no {HEADER}); `seqbraid preprocess VIDEOS {folder}` makes one"
        ) from None
    except ValueError as error:
        raise damaged_file(path, f"not JSON: {error}") from error
    header = document.get("store", document) if isinstance(document, dict) else None
    if not isinstance(header, dict) or "version" not in header:
        raise damaged_file(path, "it has no format version")
    if header["version"] != FORMAT_VERSION:
        raise DataError(
            f"{folder} has format version {header['version']!r}, this seqbraid reads {FORMAT_VERSION}; "
            "make the store anew with `seqbraid preprocess`, or use the seqbraid that made it"
        )
    # Labels and splits that changed on the disk would train a wrong model without a word.
    body = text[text.find(b'"store": ') + len(b'"store": ') :].rstrip()[:-1]
    if document.get("sha256") != _sha256(body):
        raise damaged_file(path, "its sha256 is another than the one written in front")
    return header


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
