"""How often the system killed a process because memory ran out."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["memory_kills"]


def memory_kills(root: Path = Path("/")) -> int:
    """Return the sum of the counts of this process's cgroup and of the machine; 0 where there are none.

    It only rises; whether it rose while a process ran tells whether memory may have been what ended it.
    """
    files = [root / "proc/vmstat"]
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        groups = ""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(root / "sys/fs/cgroup" / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(root / "sys/fs/cgroup/memory" / path.lstrip("/") / "memory.oom_control")
    return sum(map(_count_in, files))


def _count_in(path: Path) -> int:
    try:
        found = re.search(r"^oom_kill (\d+)$", path.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
