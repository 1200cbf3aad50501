"""An error as one line for a person, and the exit code that goes with it."""

from __future__ import annotations

import errno
import re
import sys
import traceback

from seqbraid.errors import SeqbraidError

__all__ = ["explain"]

_REMEDIES = {
    errno.ENOSPC: "make room there, then run the command again",
    errno.EDQUOT: "make room there, then run the command again",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EROFS: "choose another place",
    errno.ENOTDIR: "a part of this path is a file; choose another place",
    errno.EISDIR: "name a file, not a folder",
}


def explain(error: BaseException) -> tuple[str, int]:
    """Return one line for a person (a traceback where the defect is ours), and the exit code."""
    if isinstance(error, SeqbraidError):
        return f"error: {error}", error.exit_code
    mgrit = sys.modules.get(
        "seqbraid.mgrit"
    )  # without it, there is no such error, and it takes torch to import
    if mgrit is not None and isinstance(error, mgrit.SolverDivergedError):
        # Its own remedies are spelled as arguments of sb.MGRIT.
        what = str(error).partition("; take ")[0]
        return f"error: {what}; try --coarse frozen, a smaller --coarsening, or --on-divergence serial", 3
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, SystemExit):
        return f"error: ended by sys.exit({error.code!r})", (
            error.code if isinstance(error.code, int) else 0
        ) or 1
    if _is_want_of_memory(error):
        wanted = re.search(r"allocate ([\d.]+ \w+)", str(error))
        return (
            f"error: out of memory{f' ({wanted[1]} were wanted)' if wanted else ''}; a smaller --batch-size, "
            "fewer features or more ranks need less",
            1,
        )
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"error: {place}{error.strerror or error}{'; ' + remedy if remedy else ''}", 1
    trace = "".join(traceback.format_exception(error)).rstrip()
    return f"error: {type(error).__name__}: {error}\n{trace}", 1


def _is_want_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch tells of it by a RuntimeError with one of these texts.
    texts = ("can't allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )
