"""Warnings as one line each, said once for the whole job."""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from seqbraid.announced import launched_rank

if TYPE_CHECKING:
    from seqbraid.comm import Communicator

__all__ = [
    "Held",
    "gather_warnings",
    "name_ranks",
    "say_held_warnings",
    "take_held_warnings",
    "warnings_in_one_line",
]

# The category, and the text without its numbers: a residual differs between solves and between ranks.
_Kind = tuple[str, str]
Held = list[tuple[_Kind, str]]


class _Warnings:
    """Those of one command: rank 0 says its own at once, the others hold theirs."""

    def __init__(self, command: str, spelled: Callable[[str], str]) -> None:
        self.command = command
        self.spelled = spelled
        self.counts: Counter[_Kind] = Counter()
        self.said: set[_Kind] = set()
        self.held: Held = []

    def add(self, category: str, text: str) -> None:
        kind = (category, re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", text))
        self.counts[kind] += 1
        if self.counts[kind] > 1:
            return
        if launched_rank() != 0:
            self.held.append((kind, text))
        elif kind not in self.said:
            self.say(kind, text)

    def say(self, kind: _Kind, text: str, who: str = "") -> None:
        from tqdm import tqdm

        self.said.add(kind)
        # Through tqdm, which clears its bar away for the line and draws it again.
        tqdm.write(f"{who}{self.command}: warning: {self.spelled(text)}", file=sys.stderr)

    def say_held(self, gathered: Mapping[int, Held]) -> None:
        """Say what these ranks held, but what is said already, each kind once with the ranks that have it."""
        texts: dict[_Kind, str] = {}
        ranks: dict[_Kind, list[int]] = {}
        for rank, held in gathered.items():
            for kind, text in held:
                texts.setdefault(kind, text)
                ranks.setdefault(kind, []).append(rank)
        for kind, text in texts.items():
            if kind not in self.said:
                self.say(kind, text, name_ranks(ranks[kind]))


_current: _Warnings | None = None


@contextmanager
def warnings_in_one_line(command: str, spelled: Callable[[str], str] = str) -> Iterator[None]:
    """Print warnings as one line each; of those that recur, the first and their number.

    `spelled` is called with every warning, and returns what is to be printed.
    Ranks other than 0 hold theirs until `gather_warnings`, or until an error ends the job.
    """
    global _current
    current = _current = _Warnings(command, spelled)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        current.add(category.__name__, str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        try:
            yield
        finally:
            for kind, count in current.counts.items():
                if count > 1 and launched_rank() == 0:
                    print(
                        f"{command}: warning: {count - 1} more of the kind {kind[0]}",
                        file=sys.stderr,
                        flush=True,
                    )


def gather_warnings(communicator: Communicator) -> None:
    """Let rank 0 say the warnings that only other ranks have had since the last time; collective.

    What rank 0 has said is not said again. Raises `CommunicationError` where a rank does not come.
    """
    if communicator.size == 1:
        return
    gathered = communicator.all_gather_objects(take_held_warnings(), "the ranks' warnings")
    if communicator.rank == 0:
        say_held_warnings(dict(enumerate(gathered)))


def take_held_warnings() -> Held:
    """Return the warnings that this rank holds, and hold them no longer."""
    if _current is None:
        return []
    held, _current.held = _current.held, []
    return held


def say_held_warnings(held: Mapping[int, Held]) -> None:
    """Say what these ranks have held, without what this one has said already."""
    if _current is not None:
        _current.say_held(held)


def name_ranks(ranks: Sequence[int]) -> str:
    """Return what stands before a line of these ranks: `rank 2: `, `ranks 1, 2: `."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}: "
