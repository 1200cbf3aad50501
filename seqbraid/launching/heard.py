"""Last words that a launcher has taken before it is asked to end the job."""

from __future__ import annotations

import fcntl
import struct
import termios
import time

__all__ = ["wait_until_heard"]

_LONGEST_S = 1.0


def wait_until_heard(descriptor: int) -> None:
    """Return once the pipe behind `descriptor` is empty, or after a second; at once where it is no pipe.

    MPICH's launcher ends a job that calls MPI_Abort without reading what is left in the ranks' pipes.
    """
    deadline = time.monotonic() + _LONGEST_S
    try:
        while time.monotonic() < deadline:
            unread = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
            if struct.unpack("i", unread)[0] == 0:
                return
            time.sleep(0.005)
    except OSError:
        return
