"""What the library calls a `parameter`, written as the flag that a person types."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable

__all__ = ["in_flags", "near_flag"]

# `name`, or `name=value`
_PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")


def in_flags(text: str, parser: argparse.ArgumentParser) -> str:
    """Return `text` with every parameter in backquotes as `parser` has it: `--hidden-size`, `--plot x.png`.

    What the parser does not know stays as it is.
    """
    flags = {}
    for action in parser._actions:  # argparse has no public list of them
        declared = getattr(action, "declared", None)
        flags[action.dest if declared is None else declared.name] = _flag(action)

    def write(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name not in flags:
            return found[0]
        return flags[name] if value in (None, "True") else f"{flags[name]} {value}"

    return _PARAMETER.sub(write, text)


def near_flag(words: Iterable[str], parser: argparse.ArgumentParser) -> str | None:
    """Return the flag of `parser` that the first misspelt one among `words` may have meant, if any."""
    flags = [text for action in parser._actions for text in action.option_strings if text.startswith("--")]
    for word in words:
        if near := difflib.get_close_matches(word.partition("=")[0], flags, 1):
            return near[0]
    return None


def _flag(action: argparse.Action) -> str:
    """Return the long flag of an option, what stands in --help for a positional argument."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    return next((text for text in action.option_strings if text.startswith("--")), action.option_strings[0])
