"""Ways in which video files come to be damaged, as functions of their bytes; for tests of what reads them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["DAMAGES", "damaged_clips"]

# Returns the damaged bytes, None where this kind of file cannot be damaged so.
Damage = Callable[[bytes, random.Random], bytes | None]

# What files of other kinds begin with.
_MAGIC = (
    b"RIFF\x24\x00\x00\x00AVI ",
    b"\x00\x00\x00\x18ftypisom",
    b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81",
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\r",
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
    b"PK\x03\x04\x14\x00",
    b"\x1f\x8b\x08\x00",
    b"%PDF-1.7\n",
    b"\x7fELF\x02\x01\x01",
    b"FLV\x01\x05\x00\x00\x00\x09",
    b"OggS\x00\x02",
    b"#EXTM3U\n",
    b"ffconcat version 1.0\n",
)
_SIDES = ((65535, 65535), (20000, 20000), (32768, 16), (0, 0))
_COUNTS = (0xFFFFFFFF, 0x7FFFFFFF, 1_000_000, 0)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data))]


def _cut_to_a_few_bytes(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((1, 4, 12, 32, 100, 300))]


def _flip(count: int) -> Damage:
    def flip(data: bytes, rng: random.Random) -> bytes:
        result = bytearray(data)
        for _ in range(count):
            result[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        return bytes(result)

    return flip


def _flip_in_the_header(data: bytes, rng: random.Random) -> bytes:
    """Flip ten bytes near those that say what comes where."""
    marks = (b"hdrl", b"avih", b"idx1", b"moov", b"stsd", b"stco")
    places = [at for mark in marks for at in _places(data, mark)]
    result = bytearray(data)
    for _ in range(10):
        at = rng.choice(places or [0]) + rng.randrange(200)
        if at < len(data):
            result[at] ^= rng.randrange(1, 256)
    return bytes(result)


def _zeros(data: bytes, rng: random.Random) -> bytes:
    length = rng.randrange(1, len(data) // 2)
    start = rng.randrange(len(data) - length)
    return data[:start] + bytes(length) + data[start + length :]


def _empty(data: bytes, rng: random.Random) -> bytes:
    return b""


def _other_magic(data: bytes, rng: random.Random) -> bytes:
    magic = rng.choice([magic for magic in _MAGIC if not data.startswith(magic[:4])])
    return magic + data[len(magic) :]


def _text(data: bytes, rng: random.Random) -> bytes:
    text = "".join(rng.choice("the clip has moved to another server \n") for _ in range(2000)).encode()
    return text if rng.random() < 0.5 else text + data[len(text) :]


def _random_header(data: bytes, rng: random.Random) -> bytes:
    length = min(len(data), rng.choice((8, 64, 1024)))
    return rng.randbytes(length) + data[length:]


def _huge_sides(data: bytes, rng: random.Random) -> bytes | None:
    """Let the container declare another width and height: AVI's avih and strf, MP4's tkhd and avc1."""
    width, height = rng.choice(_SIDES)
    result = bytearray(data)
    for at in _places(data, b"avih"):
        _put(result, at + 8 + 32, "<II", width, height)
    for at in _places(data, b"strf")[:1]:
        _put(result, at + 8 + 4, "<II", width, height)
    for at in _places(data, b"tkhd"):
        behind = 12 if data[at + 4] else 0  # version 1 has longer times
        _put(result, at + 80 + behind, ">HHHH", width, 0, height, 0)
    for at in _places(data, b"avc1"):
        if data[at + 4 : at + 10] == bytes(6):  # the sample entry, not the brand
            _put(result, at + 28, ">HH", width, height)
    return _if_changed(data, result)


def _huge_pictures(data: bytes, rng: random.Random) -> bytes | None:
    """Let every picture of motion JPEG declare another width and height."""
    width, height = rng.choice(_SIDES)
    result = bytearray(data)
    for at in _places(data, b"\xff\xc0\x00\x11\x08"):
        _put(result, at + 5, ">HH", height, width)
    return _if_changed(data, result)


def _huge_counts(data: bytes, rng: random.Random) -> bytes | None:
    """Let the container declare another number of frames: AVI's avih and strh, MP4's stsz and stts."""
    count = rng.choice(_COUNTS)
    result = bytearray(data)
    for at in _places(data, b"avih"):
        _put(result, at + 8 + 16, "<I", count)
    for at in _places(data, b"strh"):
        _put(result, at + 8 + 32, "<I", count)
    for at in _places(data, b"stsz"):
        _put(result, at + 12, ">I", count)
        if rng.random() < 0.5:
            _put(result, at + 8, ">I", 1)  # all of one size, so that no table has to be there
    for at in _places(data, b"stts"):
        _put(result, at + 8 + 4 * rng.randrange(2), ">I", count)  # of entries, or of frames in the first
    return _if_changed(data, result)


def _places(data: bytes, mark: bytes) -> list[int]:
    places, at = [], data.find(mark)
    while at >= 0:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def _put(result: bytearray, at: int, form: str, *values: int) -> None:
    if at + struct.calcsize(form) <= len(result):
        struct.pack_into(form, result, at, *values)


def _if_changed(data: bytes, result: bytearray) -> bytes | None:
    return None if result == data else bytes(result)


CONCATENATED, SWAPPED = "two files in one", "extension swapped"

DAMAGES: dict[str, Damage] = {
    "cut": _cut,
    "cut to a few bytes": _cut_to_a_few_bytes,
    "1 byte flipped": _flip(1),
    "10 bytes flipped": _flip(10),
    "1000 bytes flipped": _flip(1000),
    "10 header bytes flipped": _flip_in_the_header,
    "a block of zeros": _zeros,
    "zero length": _empty,
    "another format's magic": _other_magic,
    "text": _text,
    "random header": _random_header,
    "huge frames declared": _huge_sides,
    "huge pictures": _huge_pictures,
    "huge counts": _huge_counts,
}


def damaged_clips(clips: list[Path], count: int, seed: int) -> Iterator[tuple[str, Path, str, bytes]]:
    """Make `count` damaged clips out of intact ones: (kind, the clip it was, suffix, bytes).

    The kinds come in turn; of each, a clip is drawn that can be damaged so. The same clips, count and seed
    give the same bytes.
    """
    rng = random.Random(seed)
    kinds = [*DAMAGES, CONCATENATED, SWAPPED]
    made = number = 0
    while made < count:
        kind = kinds[number % len(kinds)]
        number += 1
        for clip in rng.sample(clips, len(clips)):
            data, suffix = clip.read_bytes(), clip.suffix
            result: bytes | None
            if kind == CONCATENATED:
                result = data + rng.choice(clips).read_bytes()
            elif kind == SWAPPED:
                result, suffix = data, ".avi" if suffix == ".mp4" else ".mp4"
            else:
                result = DAMAGES[kind](data, rng)
            if result is not None:
                yield kind, clip, suffix, result
                made += 1
                break
