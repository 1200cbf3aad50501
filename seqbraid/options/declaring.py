"""How an option is declared: a field of a dataclass that says all there is to say of it, once.

The command line, config files, the rules of a resumed run, the checks of Python's callers and the reference
in docs/options.md come from these declarations.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from seqbraid.errors import OptionsError
from seqbraid.options.kinds import Kind, OneOf, PerLevel, require

__all__ = [
    "Beside",
    "Change",
    "Group",
    "InFile",
    "Option",
    "acts",
    "check",
    "documented",
    "option",
    "options_of",
    "require_beside",
    "values_of",
]

# Whether a run that goes on may change an option: "free" it may; "fixed": it would be another training, or
# its weights would not fit; "call": the option belongs to one call of the command, not to what it computes.
Change = Literal["free", "fixed", "call"]
# Whether an option stands in config files: "kept" read and written, "read" read alone, "never" neither.
InFile = Literal["kept", "read", "never"]

_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class Group:
    """A heading of --help and of the reference."""

    title: str
    description: str | None = None


@dataclass(frozen=True)
class Beside:
    """The option that another one acts beside, and the value that it must have; None: any but 0."""

    name: str
    value: str | None = None


@dataclass(frozen=True)
class Option:
    """All that is said of an option; see `option`."""

    name: str
    kind: Kind
    default: Any
    help: str
    detail: str
    metavar: str | None
    flag: str | None
    positional: bool
    group: Group | None
    beside: Beside | None
    unset: str | None
    command: Kind | None
    several: bool
    change: Change
    in_file: InFile

    @property
    def dest(self) -> str:
        """Its name among parsed arguments, and in a run's record of them: that of the flag."""
        return self.name if self.flag is None else self.flag.removeprefix("--").replace("-", "_")

    @property
    def optional(self) -> bool:
        """Whether None is a value."""
        return self.default is None

    @property
    def of_command(self) -> Kind:
        """What the command line takes."""
        return self.command or self.kind

    @property
    def shown(self) -> str | None:
        """The default in words; None where there is nothing to say."""
        if self.default is None or self.default is MISSING or isinstance(self.default, bool):
            return self.unset
        if isinstance(self.default, list):
            return " ".join(map(str, self.default))
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    @property
    def words(self) -> str:
        """Where it is one of a few words, which: "One of adam, sgd"; else nothing."""
        kind = self.of_command
        kind = kind.each if isinstance(kind, PerLevel) else kind
        return f"One of {', '.join(kind.choices)}" if isinstance(kind, OneOf) else ""

    @property
    def default_of_command(self) -> Any:
        """What it is among parsed arguments where it was not given: None tells that, where it matters."""
        return None if self.beside is not None or self.default is MISSING else self.default

    def but(self, **changes: Any) -> Option:
        """Return the same option with other words or another default, for a command of its own."""
        return replace(self, **changes)


def option(
    default: Any,
    kind: Kind,
    help: str,
    *,
    detail: str = "",
    metavar: str | None = None,
    flag: str | None = "",
    positional: bool = False,
    group: Group | None = None,
    beside: Beside | None = None,
    unset: str | None = None,
    command: Kind | None = None,
    several: bool = False,
    change: Change = "free",
    in_file: InFile = "kept",
) -> Any:
    """Declare a field of a dataclass as an option.

    Args:
        default: MISSING: it must be given. With None, None is a value.
        kind: what values it takes.
        help: one sentence without its end, for --help and the reference.
        detail: what else the reference says.
        metavar: what stands for the value in --help.
        flag: where it is not the name with dashes; None: there is none, the option is for Python alone.
        positional: on the command line, a word without a flag.
        group: the heading that it stands under.
        beside: the option without which it has no effect, and whose lack is an error where it is given.
        unset: a default of None in words.
        command: what the command line takes, where that is other than what Python takes.
        several: the command line takes one or more values.
        change: whether a run that goes on may change it.
        in_file: whether it stands in config files.

    """
    metadata = {
        "kind": kind,
        "help": help,
        "detail": detail,
        "metavar": metavar,
        "flag": flag,
        "positional": positional,
        "group": group,
        "beside": beside,
        "unset": unset,
        "command": command,
        "several": several,
        "change": change,
        "in_file": in_file,
    }
    return field(default=default, metadata={"option": metadata})


def options_of(kind: type, *names: str) -> list[Option]:
    """Return the options that a dataclass declares, in their order; with `names`, these alone, in theirs."""
    declared = _declared(kind)
    return [declared[name] for name in names or declared]


@functools.cache
def _declared(kind: type) -> dict[str, Option]:
    declared = {}
    for each in fields(kind):
        if "option" not in each.metadata:
            continue
        said = dict(each.metadata["option"])
        if said["flag"] == "":
            said["flag"] = "--" + each.name.replace("_", "-")
        declared[each.name] = Option(name=each.name, default=each.default, **said)
    return declared


def check(instance: Any) -> None:
    """Let every option of a frozen dataclass be a value of its kind; raises `OptionsError` that names it."""
    for each in options_of(type(instance)):
        given = getattr(instance, each.name)
        value = require(each.name, given, each.kind, each.optional)
        if value is not given:
            object.__setattr__(instance, each.name, value)


def values_of(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return by parameter what `given`, arguments by their names there, says of a dataclass's options.

    None, and what is not there, is left to the default.
    """
    return {each.name: given[each.dest] for each in options_of(kind) if given.get(each.dest) is not None}


def require_beside(options: Iterable[Option], given: Mapping[str, Any]) -> None:
    """Raise `OptionsError` for an option that is given, not None, without the one that it acts beside."""
    named = {each.name: each for each in options}
    for each in named.values():
        if each.beside is None or given.get(each.dest) is None or acts(each, named, given):
            continue
        value = "" if each.beside.value is None else f"={each.beside.value}"
        raise OptionsError(f"`{each.name}` is for `{each.beside.name}{value}`; add that, or leave it out")


def acts(each: Option, named: Mapping[str, Option], given: Mapping[str, Any]) -> bool:
    """Return whether the option that another one acts beside has the value for it; true without one."""
    other = None if each.beside is None else named.get(each.beside.name)
    if each.beside is None or other is None:
        return True
    value = given.get(other.dest)
    value = other.default if value is None else value
    if each.beside.value is None:
        return bool(value)
    return bool(value == each.beside.value or (isinstance(value, list) and each.beside.value in value))


def documented(kind: _Class) -> _Class:
    """Add the options of a dataclass to its docstring; for use as a decorator."""
    lines = [inspect.cleandoc(kind.__doc__ or ""), "", "Args:"]
    for each in options_of(kind):
        default = "" if each.shown is None else f" (default: {each.shown})"
        parts = [f"{each.name}: {each.help}{default}", each.words, each.detail.rstrip(".")]
        text = ". ".join(part for part in parts if part) + "."
        lines += textwrap.wrap(text, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
    kind.__doc__ = "\n".join(lines) + "\n"
    return kind
