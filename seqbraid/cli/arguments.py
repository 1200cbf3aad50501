"""Argument types, and parsers made of declared options; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from seqbraid.cli.flags import in_flags
from seqbraid.options import Option, kinds

__all__ = [
    "add_option",
    "add_options",
    "add_subcommand",
    "argument_type",
    "fraction",
    "positive",
    "whole",
]


def add_subcommand(subcommands: Any, name: str, module: ModuleType) -> argparse.ArgumentParser:
    """Add the parser of a module with HELP and `add_arguments`, and return it; the docstring teaches.

    `options.parser` becomes it, so that errors found later tell of the right --help.
    """
    parser: argparse.ArgumentParser = subcommands.add_parser(
        name,
        help=module.HELP,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser)
    module.add_arguments(parser)
    return parser


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Add declared options, each under its heading; an action's `declared` is its option.

    Of those that act beside another one, None tells that they were not given. Options of Python alone are
    left out.
    """
    groups = {group.title: group for group in parser._action_groups}  # argparse has no public list of them
    added = []
    for option in options:
        if option.flag is None:
            continue
        place: Any = parser
        if option.group is not None:
            title, description = option.group.title, option.group.description
            if title not in groups:
                groups[title] = parser.add_argument_group(title, description)
            place = groups[title]
        added.append(add_option(place, option))
    for action in added:  # when all flags are known
        action.help = in_flags(str(action.help), parser)


def add_option(place: Any, option: Option) -> argparse.Action:
    """Add one declared option to a parser or one of its groups, and return its action."""
    shown = "" if option.shown is None else f" (default: {option.shown})"
    kind = option.of_command
    words: dict[str, Any] = {"help": f"{option.help}{shown}".lstrip().replace("%", "%%")}
    if isinstance(kind, kinds.Flag):
        words["action"] = "store_true"
    elif isinstance(kind, kinds.OneOf):
        words |= {"choices": kind.choices, "default": option.default_of_command}
    else:
        words |= {"type": argument_type(kind), "default": option.default_of_command}
        words["metavar"] = option.metavar
        if option.several:
            words["nargs"] = "+"
    if option.positional:
        if option.optional:
            words["nargs"] = "?"
        action = place.add_argument(option.dest, **words)
    else:
        action = place.add_argument(option.flag, **words)
    action.declared = option
    declared: argparse.Action = action
    return declared


def argument_type(kind: kinds.Kind) -> Callable[[str], Any]:
    """Return the argparse type for values of a kind."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for whole numbers from `least` to `most`."""
    return argument_type(kinds.Whole(least, most))


fraction = argument_type(kinds.FRACTION)
positive = argument_type(kinds.POSITIVE)
