"""Options from a TOML file: flat keys named as the long options, `hidden-size = 100`.

The command line wins over the file, which wins over the defaults. What a file may give must not be required
by the parser, which `options.parser` names; `require` tells afterwards what is missing.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbraid.errors import OptionsError
from seqbraid.options import Option
from seqbraid.options.declaring import InFile
from seqbraid.options.kinds import OrWord, PerLevel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CONFIG", "apply_config", "read_config", "require"]

# The file in a run folder.
CONFIG = "config.toml"


def apply_config(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, options: argparse.Namespace
) -> argparse.Namespace:
    """Return `options`, what `parser` made of `arguments`; where they name a file, together with its options.

    With --resume, those that the run in the output folder was begun with come first. Raises `OptionsError`
    for a file that `read_config` refuses.
    """
    file = getattr(options, "config", None)
    of_file = {} if file is None else read_config(file, options.parser)
    of_run: dict[str, Any] = {}
    if getattr(options, "resume", False):
        output = options.output or of_file.get("output")
        if output is not None and (output / CONFIG).exists():
            of_run = read_config(output / CONFIG, options.parser)
    if not (of_file or of_run):
        return options
    options.parser.set_defaults(**of_run | of_file)
    return parser.parse_args(arguments)


def read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the options in the TOML file `path` by their names in the namespace of `parser`.

    Keys are the long options with - or _ and the names of positional arguments. Values pass the options' own
    types and choices; flags take true or false, options of several values a list. Raises `OptionsError`
    naming the file and what in it is wrong.
    """
    actions = _actions(parser)
    by_name = {name.replace("-", "_"): name for name in actions}
    values: dict[str, Any] = {}
    for key, value in _read_toml(path).items():
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value)):
            raise OptionsError(f"{path}: {key!r} is a table; write its options as plain lines, NAME = VALUE")
        name = by_name.get(key.replace("-", "_"))
        if name is None:
            raise OptionsError(f"{path}: {_unknown(key, list(actions), parser)}")
        action = actions[name]
        if action.dest in values:
            raise OptionsError(f"{path}: {name} is given twice; leave one")
        try:
            values[action.dest] = _parsed(action, value)
        except ValueError as error:
            raise OptionsError(f"{path}: {name}: {error}") from error
    return values


def require(parser: argparse.ArgumentParser, options: argparse.Namespace, *destinations: str) -> None:
    """Raise `OptionsError` naming those of `destinations` that neither command line nor file gave."""
    missing = [
        action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
        for action in _actions(parser).values()
        if action.dest in destinations and getattr(options, action.dest) is None
    ]
    if missing:
        raise OptionsError(f"{', '.join(missing)} must be given, on the command line or in a --config file")


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that a file may hold, by the names that they have there."""
    actions = {}
    for action in parser._actions:  # argparse has no public list of them
        if _in_file(action) == "never":
            continue
        if not (
            _is_flag(action) or isinstance(action, argparse._StoreAction | argparse.BooleanOptionalAction)
        ):
            raise TypeError(
                f"{action.dest}: options of the kind {type(action).__name__} have no form in a file"
            )
        actions[_name(action)] = action
    return actions


def _name(action: argparse.Action) -> str:
    """Return the name of an option in a file."""
    return next((text[2:] for text in action.option_strings if text.startswith("--")), action.dest)


def _in_file(action: argparse.Action) -> InFile:
    """Return whether an option stands in files, as it declares it; --help does not."""
    declared: Option | None = getattr(action, "declared", None)
    if declared is not None:
        return declared.in_file
    return "never" if action.default == argparse.SUPPRESS else "kept"


def _is_flag(action: argparse.Action) -> bool:
    return action.nargs == 0 and isinstance(action.const, bool)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise OptionsError(
            f"{path} cannot be read ({error.strerror}); --config takes a TOML file of options"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise OptionsError(f"{path} is no UTF-8 text (at line {line}); save it as UTF-8") from error
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        last = text.rstrip("\n").count("\n") + 1
        what = str(error).replace("at end of document", f"at line {last}, the last")
        raise OptionsError(f"{path} is no TOML: {what}; write NAME = VALUE, text in quotes") from error
    return values


def _unknown(key: str, names: list[str], parser: argparse.ArgumentParser) -> str:
    word = key.replace("_", "-")
    if any(word == _name(action) for action in parser._actions if _in_file(action) == "never"):
        return f"{word} is for the command line alone; remove it"
    near = difflib.get_close_matches(word, names, 1)
    remedy = f"did you mean {near[0]}?" if near else f"see {parser.prog} --help"
    return f"{key!r} is no option of {parser.prog}; {remedy}"


def _parsed(action: argparse.Action, value: Any) -> Any:
    """Return what the command line would make of `value`; raises `ValueError` where it refuses."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value if action.const is None else value == action.const
    if action.nargs in (None, "?"):
        return _parsed_word(action, _as_word(action, value))
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list; put it into [ ]")
    if isinstance(action.nargs, int) and len(value) != action.nargs:
        raise ValueError(f"{len(value)} values; expected {action.nargs}")
    if action.nargs == "+" and not value:
        raise ValueError("the list is empty; expected at least one value")
    return [_parsed_word(action, each) for each in value]


def _as_word(action: argparse.Action, value: Any) -> Any:
    """Return a list for an option of a value a level as the command line has it: 16,4."""
    several = isinstance(value, list) and all(isinstance(each, int | float | str) for each in value)
    return ",".join(map(str, value)) if several and _is_per_level(action) else value


def _is_per_level(action: argparse.Action) -> bool:
    declared: Option | None = getattr(action, "declared", None)
    kind = None if declared is None else declared.of_command
    return isinstance(kind.kind if isinstance(kind, OrWord) else kind, PerLevel)


def _parsed_word(action: argparse.Action, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        shown = str(value).lower() if isinstance(value, bool) else value
        raise ValueError(f"{shown} is neither text in quotes nor a number")
    word = str(value)
    if "\0" in word:
        raise ValueError(f"{word!r} holds the character of number 0, which no argument can")
    convert: Any = action.type or str
    try:
        result = convert(word)
    except argparse.ArgumentTypeError as error:
        raise ValueError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"invalid {getattr(convert, '__name__', convert)} value: {word!r}") from error
    if action.choices is not None and result not in action.choices:
        raise ValueError(f"invalid choice: {result!r} (choose from {', '.join(map(repr, action.choices))})")
    return result
