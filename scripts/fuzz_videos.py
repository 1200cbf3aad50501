"""Damage real clips in many ways, run `seqbraid preprocess` on them, and check that it survives every one.

CLIPS is a folder of intact videos. OUT, which must not be there yet, gets OUT/videos, the intact clips with
COUNT damaged ones among them in two class folders, and the feature stores. What is checked is printed as it
is done; then comes a table of what became of each kind of damage. The exit code is 1 where a check failed.
Linux only.

example:
  python scripts/fuzz_videos.py clips/ fuzz/ --count 300 --ranks 2
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from damage import damaged_clips
from watched_job import WatchedJob

from preprocess.clips import VIDEO_SUFFIXES
from preprocess.decode import DecodeError
from preprocess.decoder import Decoder
from seqbraid.data.store import FeatureStore

FRAMES, SIZE = 16, 64
OPTIONS = shlex.split(
    f"--backbone squeezenet1_1 --weights random:0 --layer pool --size {SIZE} --frames {FRAMES} --threads 1"
)
_LEFT_S = 5.0


@dataclass(frozen=True)
class Alone:
    """What decoding a clip by itself gave: `length` frames, or the `reason` why none; how long it took."""

    length: int
    warning: str | None
    reason: str | None
    seconds: float


class Checks:
    """Prints every check with what came of it, and counts those that failed."""

    def __init__(self) -> None:
        self.failed = 0

    def __call__(self, what: str, wrong: object = None) -> None:
        """Report a check; `wrong` is whatever is not as it should be, nothing if all is well."""
        self.failed += bool(wrong)
        print(f"  {'FAILED' if wrong else 'ok    '}  {what}{f': {wrong}' if wrong else ''}", flush=True)


def main() -> None:
    """Make the clips, run the jobs, check and print."""
    options = _parser().parse_args()
    clips = sorted(path for path in options.clips.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not clips:
        sys.exit(f"fuzz_videos: no videos in {options.clips}")
    if options.out.exists():
        sys.exit(f"fuzz_videos: {options.out} is there already; choose another folder")
    options.out.mkdir(parents=True)
    kinds = make_videos(clips, options)
    checks = Checks()
    first = check_jobs(options, kinds, checks)
    alone = decode_alone(options.out / "videos", kinds)
    check_against(alone, FeatureStore.open(options.out / "store"), checks)
    print()
    print_table(kinds, alone)
    print(f"\n{len(kinds)} clips in {first.seconds:.1f} s on {options.ranks} ranks; peak memory: ", end="")
    print(", ".join(f"{kind} {kb / 1024:.0f} MB" for kind, kb in sorted(first.peak_kb.items())))
    if checks.failed:
        sys.exit(f"fuzz_videos: {checks.failed} checks failed")
    print("all checks passed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, metavar="CLIPS", help="folder of intact videos")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for videos and feature stores")
    for name, default, text in (
        ("count", 300, "damaged clips"),
        ("seed", 0, "of all random choices"),
        ("ranks", 2, "ranks of the job"),
        ("limit", 1200, "seconds that a job may take"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    return parser


def make_videos(clips: list[Path], options: argparse.Namespace) -> dict[str, str]:
    """Write OUT/videos and OUT/intact, and return what was done to each clip: {clip: kind}."""
    kinds = {}
    for number, path in enumerate(clips):
        name = f"{'ab'[number % 2]}/intact {path.name}"
        kinds[name] = "intact"
        for folder in ("videos", "intact"):
            (options.out / folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, options.out / folder / name)
    damaged = damaged_clips(clips, options.count, options.seed)
    for number, (kind, path, suffix, data) in enumerate(damaged):
        name = f"{'ab'[number % 2]}/{number:04d} {kind}, {path.stem}{suffix}"
        kinds[name] = kind
        (options.out / "videos" / name).write_bytes(data)
    return kinds


def check_jobs(options: argparse.Namespace, kinds: Mapping[str, str], checks: Checks) -> WatchedJob:
    """Run the jobs on damaged and intact clips and check how they end; return the first one."""

    def start(videos: str, store: str, ranks: int = options.ranks, *more: str) -> tuple[WatchedJob, int]:
        arguments = ["preprocess", str(options.out / videos), str(options.out / store), *OPTIONS, *more]
        job = WatchedJob(arguments, ranks, options.out)
        code = job.wait(options.limit)
        print(f"{' '.join(arguments)}, {ranks} ranks: exit code {code} after {job.seconds:.1f} s", flush=True)
        checks("no process is left over", job.left_over(_LEFT_S))
        return job, code

    _, code = start("intact", "reference")
    checks("exit code 0", code)
    first, code = start("videos", "store")
    checks("exit code 0", code)
    store = FeatureStore.open(options.out / "store")  # raises where a clip is pending
    failures = store.failures()
    checks("every clip is there", kinds.keys() ^ set(store.clips))
    failed = {store.clips[index] for index in store.failed()}
    checks("those that failed have a reason", failed ^ {clip for clip, why in failures.items() if why})
    listed = set(first.errors.splitlines())
    checks("they are listed", [c for c, why in failures.items() if f"  {c}: {why}" not in listed])
    checks("no traceback is among what is said", "Traceback" in first.errors and first.errors)
    checks("what is done matches its checksums", store.damaged())
    reference = FeatureStore.open(options.out / "reference")
    checks("intact clips have the features of a run without damaged ones", _differing(reference, store))
    before = _contents(store.folder)
    _, code = start("videos", "store")
    checks("exit code 0", code)
    checks("the files are the same again", _changed(before, _contents(store.folder)))
    _, code = start("videos", "store on one rank", 1)
    checks("exit code 0", code)
    checks("so are those of one rank", _changed(before, _contents(options.out / "store on one rank")))
    strict, code = start("videos", "strict", options.ranks, "--strict")
    checks("exit code 2", code != 2 and code)
    named = [line for line in strict.errors.splitlines() if "seqbraid preprocess: error:" in line]
    checks("a clip is named", not any(clip in line for line in named for clip in failures) and strict.errors)
    return first


def _differing(reference: FeatureStore, store: FeatureStore) -> list[str]:
    return [
        clip
        for index, clip in enumerate(reference.clips)
        if store.lengths[store.clips.index(clip)] != reference.lengths[index]
        or not np.array_equal(store.features[store.clips.index(clip)], reference.features[index])
    ]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def decode_alone(videos: Path, kinds: Mapping[str, str]) -> dict[str, Alone]:
    """Decode each clip by itself and take the time."""
    results = {}
    with Decoder(FRAMES, SIZE) as decoder:
        for clip in kinds:
            length, warning, reason, start = 0, None, None, time.perf_counter()
            try:
                length = sum(1 for _ in decoder.clip(videos / clip))
                warning = decoder.warning
            except DecodeError as error:
                reason = str(error).removeprefix(f"{videos / clip}: ")
            results[clip] = Alone(length, warning, reason, time.perf_counter() - start)
    return results


def check_against(alone: Mapping[str, Alone], store: FeatureStore, checks: Checks) -> None:
    """Check that the job kept of each clip what decoding it by itself gives."""
    lengths = dict(zip(store.clips, store.lengths.tolist(), strict=True))
    failures = store.failures()
    print("each clip by itself")
    checks("the same frames", [clip for clip, found in alone.items() if found.length != lengths[clip]])
    checks("the same reasons", [c for c, found in alone.items() if found.reason != failures.get(c)])


def print_table(kinds: Mapping[str, str], alone: Mapping[str, Alone]) -> None:
    """Print what became of each kind of damage, then the reasons of the clips that were skipped."""
    rows: list[tuple[str, ...]] = [("", "clips", "whole", "warned", "skipped", "mean s", "max s")]
    for kind in dict.fromkeys(kinds.values()):
        found = [alone[clip] for clip in kinds if kinds[clip] == kind]
        skipped, warned = sum(not one.length for one in found), sum(bool(one.warning) for one in found)
        counts = (len(found), len(found) - skipped - warned, warned, skipped)
        seconds = [one.seconds for one in found]
        times = (f"{sum(seconds) / len(seconds):.3f}", f"{max(seconds):.3f}")
        rows.append((kind, *(str(count) for count in counts), *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        numbers = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join((f"{name:<{widths[0]}}", *numbers)))
    print()
    for reason, count in Counter(one.reason for one in alone.values() if one.reason).most_common():
        print(f"{count:4d}  {reason}")


if __name__ == "__main__":
    main()
