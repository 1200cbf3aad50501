"""What values an option takes: read from text, checked in Python, and said in words."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from seqbraid.errors import OptionsError

__all__ = [
    "AT_LEAST_ZERO",
    "FILE",
    "FINITE",
    "FLAG",
    "FRACTION",
    "FRACTION_OR_ZERO",
    "POSITIVE",
    "TEXT",
    "File",
    "Flag",
    "Kind",
    "Number",
    "OneOf",
    "OrWord",
    "PerLevel",
    "Several",
    "Text",
    "Whole",
    "require",
]


class Kind(Protocol):
    """A kind of values.

    `expected` says them in words, for errors of the command line, of files and of Python alike: "a whole
    number from 1 to 9".
    """

    @property
    def expected(self) -> str:
        """The values in words."""
        ...

    def parse(self, text: str) -> Any:
        """Return the value that `text` stands for; raises `ValueError` for what is none."""
        ...

    def take(self, value: Any) -> Any:
        """Return `value` as one of Python's own types; raises `ValueError` for what is none."""
        ...


@dataclass(frozen=True)
class Whole:
    """Whole numbers from `least` to `most`, both included; None: without an end."""

    least: int
    most: int | None = None

    @property
    def expected(self) -> str:
        """The values in words."""
        if self.most is None:
            return f"a whole number of at least {self.least}"
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, text: str) -> int:
        """Return the number that `text` stands for."""
        try:
            return self._within(int(text))
        except ValueError:
            raise ValueError(f"{text!r} is not {self.expected}") from None

    def take(self, value: Any) -> int:
        """Return `value` as an int."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise _refused(value, self)
        try:
            return self._within(int(value))
        except ValueError:
            raise _refused(value, self) from None

    def _within(self, value: int) -> int:
        if value < self.least or (self.most is not None and value > self.most):
            raise ValueError
        return value


@dataclass(frozen=True)
class Number:
    """Numbers above `low` and below `high`; with `from_low`, `low` too."""

    expected: str
    low: float
    high: float
    from_low: bool = False

    def parse(self, text: str) -> float:
        """Return the number that `text` stands for."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not self._holds(value):
            raise ValueError(f"{text!r} is not {self.expected}")
        return value

    def take(self, value: Any) -> float:
        """Return `value` as a float."""
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not self._holds(float(value)):
            raise _refused(value, self)
        return float(value)

    def _holds(self, value: float) -> bool:
        return (self.low <= value if self.from_low else self.low < value) and value < self.high


# Numbers beyond 1e30 cannot be reckoned with in float32.
POSITIVE = Number("a positive number below 1e30", 0.0, 1e30)
AT_LEAST_ZERO = Number("a number from 0, below 1e30", 0.0, 1e30, from_low=True)
FINITE = Number("a number between -1e30 and 1e30", -1e30, 1e30)
FRACTION = Number("a number between 0 and 1", 0.0, 1.0)
FRACTION_OR_ZERO = Number("a number from 0 that is less than 1", 0.0, 1.0, from_low=True)


class OneOf:
    """One of a few words: `choices`, those of a `Literal` or given one by one."""

    def __init__(self, literal: Any, *more: str) -> None:
        self.choices: tuple[str, ...] = (literal, *more) if isinstance(literal, str) else get_args(literal)

    @property
    def expected(self) -> str:
        """The words."""
        return f"one of {', '.join(self.choices)}"

    def parse(self, text: str) -> str:
        """Return `text`, where it is one of the words."""
        if text not in self.choices:
            raise ValueError(f"{text!r} is not {self.expected}")
        return text

    def take(self, value: Any) -> str:
        """Return `value`, where it is one of the words."""
        if not isinstance(value, str) or value not in self.choices:
            raise _refused(value, self)
        return value


@dataclass(frozen=True)
class PerLevel:
    """A value of `each` for all levels, or several: a tuple in Python, 16,4 on the command line."""

    each: Kind

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"{self.each.expected}, or several, one for each level but the coarsest"

    def parse(self, text: str) -> Any:
        """Return the value, or a tuple of those with commas between."""
        values = tuple(self.each.parse(word) for word in text.split(","))
        return values[0] if len(values) == 1 else values

    def take(self, value: Any) -> Any:
        """Return the value or a tuple; a list, as JSON has it, becomes one."""
        if isinstance(value, list | tuple):
            return tuple(self.each.take(each) for each in value)
        return self.each.take(value)


@dataclass(frozen=True)
class Several:
    """Values of `each`: a tuple in Python, words on the command line."""

    each: Kind

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"{self.each.expected}, one or several"

    def parse(self, text: str) -> Any:
        """Return one of the values."""
        return self.each.parse(text)

    def take(self, value: Any) -> Any:
        """Return the values as a tuple."""
        if not isinstance(value, list | tuple):
            raise _refused(value, self)
        return tuple(self.each.take(each) for each in value)


@dataclass(frozen=True)
class OrWord:
    """A value of `kind`, or the word itself."""

    kind: Kind
    word: str

    @property
    def expected(self) -> str:
        """The values in words."""
        return f"{self.kind.expected}, or {self.word}"

    def parse(self, text: str) -> Any:
        """Return the word or the value."""
        if text == self.word:
            return text
        try:
            return self.kind.parse(text)
        except ValueError as error:
            raise ValueError(f"{error}, nor {self.word}") from None

    def take(self, value: Any) -> Any:
        """Return the word or the value."""
        return value if value == self.word else self.kind.take(value)


class Text:
    """Any text."""

    expected = "text"

    def parse(self, text: str) -> str:
        """Return `text`."""
        return text

    def take(self, value: Any) -> str:
        """Return `value`, where it is text."""
        if not isinstance(value, str):
            raise _refused(value, self)
        return value


class File:
    """The path of a file or folder."""

    expected = "a path"

    def parse(self, text: str) -> Path:
        """Return the path."""
        return Path(text)

    def take(self, value: Any) -> Path:
        """Return the path."""
        if not isinstance(value, str | Path):
            raise _refused(value, self)
        return Path(value)


class Flag:
    """True or False; on the command line, True by the flag alone."""

    expected = "True or False"

    def parse(self, text: str) -> bool:
        """Never asked: a flag has no text."""
        raise ValueError(f"{text!r} beside a flag that takes no value")

    def take(self, value: Any) -> bool:
        """Return `value`, where it is True or False."""
        if not isinstance(value, bool):
            raise _refused(value, self)
        return value


TEXT, FILE, FLAG = Text(), File(), Flag()


def require(name: str, value: Any, kind: Kind, optional: bool = False) -> Any:
    """Return `value` as `kind` has it, None too where `optional`; raises `OptionsError` that names it."""
    if optional and value is None:
        return None
    try:
        return kind.take(value)
    except ValueError as error:
        raise OptionsError(f"{name} {error}{' or None' if optional else ''}") from None


def _refused(value: Any, kind: Kind) -> ValueError:
    return ValueError(f"is {value!r}; expected {kind.expected}")
