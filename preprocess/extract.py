"""Extraction: every clip of a data set through a backbone into a feature store, shared over the ranks."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from preprocess.backbones import Backbone, load_backbone
from preprocess.clips import LabelledClips, labelled_clips
from preprocess.continuing import create_or_continue
from preprocess.networks import random_seed
from preprocess.pipeline import clip_features
from seqbraid.comm import Communicator, TaskQueue, on_rank_zero
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError
from seqbraid.files import write_text
from seqbraid.options.extraction import ExtractOptions
from seqbraid.progress import progress_bar

__all__ = ["ExtractOptions", "extract"]

_logger = logging.getLogger("seqbraid.preprocess")

_LISTED = 10  # warnings printed in full; skipped clips are all listed, since they are missing from the store
_MISSING = "missing.txt"


@dataclass
class _Tally:
    """What one rank did: frames written, {clip: reason} of the failed ones, {clip: warning} of the rest."""

    clips: int = 0
    frames: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


def extract(
    videos: str | os.PathLike[str], out: str | os.PathLike[str], options: ExtractOptions, comm: Communicator
) -> FeatureStore:
    """Turn the clips of `videos` (a folder, or a manifest) into the feature store `out`, and return it.

    Collective over `comm`. A store that is there already, made with the same options, is continued: clips
    written before are kept, clips that failed before are tried again, and the splits become those asked for
    now. Clips that cannot be decoded are skipped, and listed at the end. Raises `DataError` where `videos`
    holds no data set, `out` was made with other options, or every clip failed; with `options.strict`,
    `DecodeError` for the first that fails.
    """
    start = time.perf_counter()
    videos, out = Path(videos), Path(out)
    # Before the backbone, since a wrong folder should not wait for a download.
    found = on_rank_zero(comm, lambda: labelled_clips(videos, options.splits), "finding the clips")
    backbone = load_backbone(options.backbone, options.weights, options.layer, comm)
    if random_seed(options.weights) is not None:
        _logger.info(f"random weights, seed {random_seed(options.weights)}: features are untrained")

    def begin() -> list[int]:
        stored_options = {**backbone.describe(), **vars(options.sampling)}
        store = create_or_continue(
            out, found, backbone.feature_size, stored_options, options.dtype, options.check
        )
        sizes = {index: _file_size(found.root / store.clips[index]) for index in store.pending().tolist()}
        # The largest first, so that no rank begins with a long one when the others are done.
        pending = sorted(sizes, key=lambda index: (-sizes[index], index))
        _report_names(found, out)
        return pending

    # Rank 0's list for all: a rank that looked later would miss what others have written by then.
    pending = on_rank_zero(comm, begin, "making the feature store")
    store = FeatureStore.open(out, require_complete=False)
    _logger.info(_opening(store, len(pending), comm.size))
    tally = _extract(store, found.root, pending, backbone, options, comm)
    tallies = comm.all_gather_objects(tally, "gathering the reports of extraction")
    store.lengths = store.read_lengths()
    if comm.rank == 0:
        _report(store, tallies, time.perf_counter() - start)
    if not store.lengths.any():
        raise DataError(f"every clip of {videos} failed; the first: {_first_failure(tallies)}")
    return store


def _report_names(found: LabelledClips, out: Path) -> None:
    """Tell of clips that are named and not there, or there and not named."""
    if found.missing:
        write_text(out / _MISSING, "".join(f"{clip}\n" for clip in found.missing))
        _warn(
            f"{len(found.missing)} clips are named and not there; {out / _MISSING} lists them:", found.missing
        )
    else:
        (out / _MISSING).unlink(missing_ok=True)
    if found.unlisted:
        _warn(
            f"{len(found.unlisted)} clips are in no split file; they are extracted, but marked unused:",
            found.unlisted,
        )


def _warn(text: str, clips: Sequence[str]) -> None:
    """Warn of clips, of which the first are listed."""
    lines = [text, *clips[:_LISTED]]
    if len(clips) > _LISTED:
        lines.append(f"and {len(clips) - _LISTED} more")
    _logger.warning("\n  ".join(lines))


def _opening(store: FeatureStore, pending: int, ranks: int) -> str:
    there = "" if pending == len(store) else f", {len(store) - pending} there already"
    classes, noun = len(store.class_names), "rank" if ranks == 1 else "ranks"
    splits = []
    for name in store.split_names:
        marks = store.marks(name).tolist()
        splits.append(f"split {name} {marks.count(1)} train, {marks.count(2)} test, {marks.count(0)} unused")
    return f"{len(store)} clips of {classes} classes{there}; {'; '.join(splits)}; {ranks} {noun}"


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # decoding it will say what is wrong


def _extract(
    store: FeatureStore,
    root: Path,
    pending: list[int],
    backbone: Backbone,
    options: ExtractOptions,
    comm: Communicator,
) -> _Tally:
    """Extract clips of `pending` until none is left for any rank."""
    tally, queue = _Tally(), TaskQueue(comm, len(pending))
    paths = [root / store.clips[index] for index in pending]
    with progress_bar(len(pending), "extracting", "clip", comm.rank) as bar:
        tick = _progress(bar, queue) if comm.rank == 0 else None
        for result in clip_features(paths, backbone, options.sampling, queue, tick):
            index, path = pending[result.task], paths[result.task]
            clip = store.clips[index]
            if result.features is None:
                assert result.error is not None
                if options.strict:
                    raise result.error
                tally.failures[clip] = str(result.error).removeprefix(f"{path}: ")
                store.mark_failed(index)
            else:
                store.write_clip(index, result.features)
                tally.clips += 1
                tally.frames += len(result.features)
                if result.warning:
                    tally.warnings[clip] = result.warning
    return tally


def _progress(bar: object, queue: TaskQueue) -> Callable[[], None]:
    """Return what brings the bar of the whole job up to date."""
    start = time.perf_counter()

    def tick() -> None:
        rate = queue.units / (time.perf_counter() - start)
        bar.set_postfix(frames=f"{rate:.1f}/s", refresh=False)  # type: ignore[attr-defined]
        bar.update(queue.done - bar.n)  # type: ignore[attr-defined]

    return tick


def _report(store: FeatureStore, tallies: Sequence[_Tally], seconds: float) -> None:
    failures = {clip: reason for tally in tallies for clip, reason in tally.failures.items()}
    warnings = {clip: warning for tally in tallies for clip, warning in tally.warnings.items()}
    store.write_failures(failures)
    for clip in sorted(warnings)[:_LISTED]:
        _logger.warning(f"{clip}: {warnings[clip]}")
    if len(warnings) > _LISTED:
        _logger.warning(f"and {len(warnings) - _LISTED} more clips of which not all frames could be decoded")
    if failures:
        head = f"{len(failures)} of {len(store)} clips could not be decoded and are left out:"
        _logger.warning("\n  ".join([head, *(f"{clip}: {failures[clip]}" for clip in sorted(failures))]))
    clips, frames = sum(tally.clips for tally in tallies), sum(tally.frames for tally in tallies)
    rate = f"{clips} clips, {frames} frames in {seconds:.1f} s ({frames / seconds:.1f} frames/s)"
    there = f"{int((store.lengths > 0).sum())} of {len(store)} clips are in {store.folder}"
    _logger.info(f"{rate if clips else 'nothing new'}; {there}")


def _first_failure(tallies: Sequence[_Tally]) -> str:
    failures = sorted(item for tally in tallies for item in tally.failures.items())
    return ": ".join(failures[0]) if failures else "none of them is pending"
