"""What a run that goes on may change of its options, as they declare it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from seqbraid.errors import OptionsError
from seqbraid.options.declaring import Option, acts

__all__ = ["changed_options", "fallen_away", "recorded", "refuse_changes"]


def recorded(options: Iterable[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return as plain values, by their names among arguments, what a run's record keeps of its options."""
    return {
        each.dest: _plain(given[each.dest])
        for each in options
        if each.change != "call" and each.dest in given
    }


def refuse_changes(
    options: Iterable[Option], before: Mapping[str, Any], now: Mapping[str, Any], begun: object
) -> None:
    """Raise `OptionsError` for the first option that would make `begun`, a run, another one.

    `before` is what `recorded` gave when it began; an option that is younger than the run was at its default.
    """
    for each in options:
        was, will_be = _value(each, before), _value(each, now)
        if each.change == "fixed" and each.dest in now and was != will_be:
            raise OptionsError(
                f"{begun} was begun with `{each.name}={was}`, which it cannot change to {will_be}; leave it "
                "out, or begin another run"
            )


def fallen_away(options: Iterable[Option], before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the arguments that are as before, but have no effect beside the options as they are now."""
    named = {each.name: each for each in options}
    return [
        each.dest
        for each in named.values()
        if not acts(each, named, now) and _plain(now.get(each.dest)) == before.get(each.dest)
    ]


def changed_options(
    options: Iterable[Option], before: Mapping[str, Any], now: Mapping[str, Any]
) -> list[str]:
    """Return a line for each option that a run goes on with at another value."""
    lines = []
    for each in options:
        was, is_now = _value(each, before), _value(each, now)
        # What is None now has lost its meaning beside another change; None was the default, whatever it is.
        same = was == is_now or (was is None and str(is_now) == each.unset)
        if now.get(each.dest) is not None and not same and each.change != "call":
            lines.append(f"`{each.name}={is_now}` (was {was})")
    return lines


def _value(option: Option, values: Mapping[str, Any]) -> Any:
    value = values.get(option.dest)
    return _plain(option.default if value is None else value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value
