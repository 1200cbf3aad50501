"""A TOML file of options, as a run folder keeps it and `seqbraid train` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import tomli_w

from seqbraid.files import write_text

__all__ = ["write_config"]


def write_config(path: Path, values: Mapping[str, Any], command: str) -> None:
    """Write options by their names in the file; `command` is what repeats the run, THIS_FILE its path.

    Those at None, which TOML lacks, become comments. Raises `TypeError` for a value that is no text, number,
    truth value or path, nor a list of such.
    """
    lines = [f"# To repeat this, where it was started: {command}"]
    for name, given in values.items():
        value = _plain(name, given)
        if value is None:
            lines.append(f"# {name} is not given")
        elif not _is_text(value):
            lines.append(f"# {name} is {value!a}, which is no UTF-8; give it on the command line")
        else:
            lines.append(tomli_w.dumps({name: value}).rstrip())
    write_text(path, "\n".join(lines) + "\n")


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name}: {value!r} has no form in TOML")


def _is_text(value: Any) -> bool:
    """Return whether all text in `value` can be written; names of files may hold bytes that are no UTF-8."""
    if isinstance(value, list):
        return all(map(_is_text, value))
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True
