"""Options as `seqbraid train` writes them, of any parser."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqbraid.cli.config import _actions, _in_file, _is_flag
from seqbraid.train.config_file import write_config

__all__ = ["write_options"]


def write_options(file: Path, parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Write every option of `parser` that a file keeps, at its value in `options`."""
    values = {}
    for name, action in _actions(parser).items():
        if _in_file(action) != "read":
            value = getattr(options, action.dest)
            values[name] = value == action.const if _is_flag(action) else value
    write_config(file, values, f"{parser.prog} --config THIS_FILE")
