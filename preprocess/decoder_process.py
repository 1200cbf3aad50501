"""The process that decodes videos for a rank: a damaged file may crash or stall it, and the rank goes on.

Requests come as one JSON object a line on standard input; for each, the frames of a clip leave on standard
output, then how it ended. Every message is one byte for its kind, four for the length of what follows:
pixels, the warning (perhaps empty), or why the file cannot be decoded.
Started by `preprocess.decoder`, not by hand.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO

__all__ = ["END", "FAILED", "FRAME", "HEADER"]

HEADER = struct.Struct("<cI")
FRAME, END, FAILED = b"f", b"e", b"x"

# Address space, not memory in use: OpenCV and its libraries take a part of it at once.
_MOST_MEMORY = 6 << 30


def _read_requests(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    # The rank is gone, perhaps killed, while a decode may be stuck.
    os._exit(0)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on every system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > _MOST_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, hard))


def _serve(requests: queue.SimpleQueue[dict[str, Any]], output: BinaryIO) -> None:
    from preprocess.decode import DecodeError, VideoReader

    def send(kind: bytes, content: Any) -> None:
        view = memoryview(content).cast("B")
        output.write(HEADER.pack(kind, len(view)))
        output.write(view)

    while True:
        request = requests.get()
        path = os.fsdecode(bytes.fromhex(request["path"]))
        try:
            with VideoReader(path, request["frames"], request["size"], request["stride"]) as reader:
                for image in reader:
                    send(FRAME, image)
                send(END, (reader.warning or "").encode())
        except DecodeError as error:
            reason = str(error).removeprefix(f"{path}: ")
            send(FAILED, reason.encode("utf-8", "backslashreplace"))
        output.flush()


def main() -> None:
    """Serve until standard input ends."""
    # Ctrl-C reaches every process of the terminal; the rank decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    # A copy of standard output for the messages, so that nothing that a library prints comes between.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    try:
        _serve(requests, output)
    except BrokenPipeError:
        os._exit(0)
    except Exception:
        traceback.print_exc()
        # Python's own way out aborts with a core dump, since a thread is reading standard input.
        os._exit(1)


if __name__ == "__main__":
    main()
