"""The reference of options: docs/options.md, written from their declarations.

python -m seqbraid.options.reference > docs/options.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from seqbraid.options.commands import OF_A_TRAINING
from seqbraid.options.declaring import Group, Option, options_of
from seqbraid.options.extraction import ExtractOptions, Sampling, SplitOptions
from seqbraid.options.model import ModelOptions
from seqbraid.options.network import NetworkOptions
from seqbraid.options.ranks import RankOptions, ThreadOptions
from seqbraid.options.runs import RunOptions, SafetyOptions, TrainedOptions
from seqbraid.options.sequences import SequenceOptions
from seqbraid.options.solver import MGRIT, SolverOptions
from seqbraid.options.training import TrainingOptions

__all__ = ["CLASSES", "reference"]

CLASSES: tuple[type[Any], ...] = (
    RunOptions,
    ThreadOptions,
    SequenceOptions,
    ModelOptions,
    TrainingOptions,
    SafetyOptions,
    SolverOptions,
    MGRIT,
    RankOptions,
    TrainedOptions,
    NetworkOptions,
    ExtractOptions,
    Sampling,
    SplitOptions,
)

_INTRODUCTION = """\
# Options

The options of `seqbraid train` and `seqbraid preprocess`, and those that other commands share. They stand on
the command line, and of `train` also, without the dashes, in a file for `--config` (`hidden-size = 100`); in
Python they are parameters of the classes in `seqbraid.options`. A run that goes on (`--resume`) may change
those without a word in the last column: "fixed" ones would make it another training, and those "of a call"
say nothing of the training.

`python -m seqbraid.options.reference > docs/options.md` writes this page from the declarations of the
options in `seqbraid/options/`; change them there.
"""

_CALL = Group("the call of a command")
_OTHER_GROUPS: dict[type[Any], Group] = {
    TrainedOptions: Group("a trained run", "For the commands that take one."),
    ExtractOptions: Group("what preprocess makes"),
}
_WORDS_OF_CHANGE = {"free": "", "fixed": "fixed", "call": "of a call"}


class _Row(NamedTuple):
    option: Option
    owner: str
    default: str


def reference() -> str:
    """Return the page."""
    of_a_training = {(each.name, each.group): each for each in OF_A_TRAINING}
    groups: dict[Group, list[_Row]] = {}
    flags: dict[str, str | None] = {}
    for kind in CLASSES:
        for declared in options_of(kind):
            each = of_a_training.get((declared.name, declared.group), declared)
            other = "" if each.shown == declared.shown else f"; in Python {declared.shown}"
            group = each.group or _OTHER_GROUPS.get(kind, _CALL)
            row = _Row(each, kind.__name__, f"{each.shown or ''}{other}")
            groups.setdefault(group, []).append(row)
            flags[each.name] = each.flag
    parts = [_INTRODUCTION]
    for group, rows in groups.items():
        parts.append(f"## {group.title[0].upper()}{group.title[1:]}\n")
        if group.description is not None:
            parts.append(f"{group.description}\n")
        parts.append(_table(rows, flags))
    return "\n".join(parts)


def _table(rows: Iterable[_Row], flags: dict[str, str | None]) -> str:
    lines = ["| option | in Python | values | default | what it is | at `--resume` |", "| --- " * 6 + "|"]
    for each, owner, default in rows:
        flag = each.metavar if each.positional else each.flag
        cells = [
            "" if flag is None else f"`{flag}`",
            f"`{owner}.{each.name}`",
            each.of_command.expected,
            default,
            _spelled(_text(each), flags),
            _WORDS_OF_CHANGE[each.change],
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _text(option: Option) -> str:
    beside = ""
    if option.beside is not None and option.beside.name != "solver":  # which its whole group is beside
        value = "" if option.beside.value is None else f"={option.beside.value}"
        beside = f"Acts beside `{option.beside.name}{value}` alone."
    return " ".join(each for each in (f"{option.help}.", option.detail, beside) if each)


def _spelled(text: str, flags: dict[str, str | None]) -> str:
    """Return `text` with the flags of what it names as parameters."""

    def write(found: re.Match[str]) -> str:
        name, value = found.groups()
        flag = flags.get(name)
        return found[0] if flag is None else f"`{flag}{'' if value is None else ' ' + value}`"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", write, text)


if __name__ == "__main__":
    print(reference(), end="")
