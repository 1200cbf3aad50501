"""Log messages of the library, shown by rank 0 alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from seqbraid.announced import launched_rank

__all__ = ["RankZeroHandler", "messages_shown"]


class RankZeroHandler(logging.Handler):
    """Prints messages on rank 0: those of level INFO and below on standard output, others on standard error.

    `spelled` is called with every message, and returns what is to be printed.
    """

    def __init__(self, spelled: Callable[[str], str] = str) -> None:
        super().__init__()
        self._spelled = spelled

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        if launched_rank() != 0:
            return
        # Names of files that are not text would end the job at the terminal.
        text = self._spelled(self.format(record)).encode("utf-8", "backslashreplace").decode()
        if record.levelno < logging.WARNING:
            print(text, flush=True)
        else:
            print(f"{record.levelname.lower()}: {text}", file=sys.stderr, flush=True)


@contextmanager
def messages_shown(spelled: Callable[[str], str] = str) -> Iterator[None]:
    """Show the messages of the logger "seqbraid" and its children, on rank 0, within the context.

    A `RankZeroHandler` that is there already rests meanwhile, so that nothing is said twice.
    """
    logger = logging.getLogger("seqbraid")
    level, handlers = logger.level, logger.handlers
    others = [handler for handler in handlers if not isinstance(handler, RankZeroHandler)]
    logger.handlers = [*others, RankZeroHandler(spelled)]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = handlers
        logger.setLevel(level)
