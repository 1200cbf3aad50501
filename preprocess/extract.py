"""Extraction: every clip of a data set through a backbone into a feature store, shared over the ranks."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.backbones import Backbone, load_backbone, random_seed
from preprocess.clips import LabelledClips, find_clips
from preprocess.decode import DecodeError, decode_clip
from seqbraid.comm import Communicator, on_first_rank
from seqbraid.data.splits import assign_splits, read_split_files, stratified_split
from seqbraid.data.store import FeatureStore
from seqbraid.errors import DataError
from seqbraid.progress import progress_bar

__all__ = ["ExtractOptions", "backbone_from_options", "extract", "features_of_clip", "features_of_clips"]

_LISTED = 10  # warnings printed in full; skipped clips are all listed, since they are missing from the store
_POLL_S = 0.5
_STALL_S = 300.0


@dataclass(frozen=True)
class ExtractOptions:
    """What to compute of each clip (`backbone` ... `size`) and how to divide the clips for training.

    With `splits` (a folder of HMDB51 split files) split number `split` is stored; without, `test_fraction`
    of every class is drawn for testing from `seed`. `strict`: the first clip that fails ends the job.
    """

    backbone: str = "resnet18"
    weights: str = "IMAGENET1K_V1"
    layer: str = "logits"
    frames: int = 128
    size: int = 240
    splits: Path | None = None
    split: int = 1
    test_fraction: float = 0.3
    seed: int = 0
    strict: bool = False


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
    """Turn the clips `videos`/<class>/<clip> into the feature store `out`, and return it.

    Collective over `comm`. A store that is there already, made with the same options, is continued: clips
    written before are kept, clips that failed before are tried again. Clips that cannot be decoded are
    skipped, and listed at the end. Raises `DataError` where `videos` holds no data set, `out` was made with
    other options, or every clip failed; with `options.strict`, `DecodeError` for the first that fails.
    """
    start = time.perf_counter()
    videos, out = Path(videos), Path(out)

    def clips_and_splits() -> tuple[LabelledClips, list[int]]:
        found = find_clips(videos)
        return found, _splits(found, options)

    # Before the backbone, since a wrong folder should not wait for a download.
    found = on_first_rank(comm, clips_and_splits, "finding the clips")
    backbone = load_backbone(options.backbone, options.weights, options.layer, comm)
    if random_seed(options.weights) is not None and comm.rank == 0:
        _say(f"random weights, seed {random_seed(options.weights)}: features are untrained")

    def share_out() -> list[int]:
        assert found is not None  # as on rank 0
        store = _create_or_continue(out, *found, backbone, options)
        sizes = {index: _file_size(videos / store.clips[index]) for index in store.pending().tolist()}
        # The largest first and dealt in turn, so that no rank ends with a long one.
        pending = sorted(sizes, key=lambda index: (-sizes[index], index))
        _say(_opening(store, len(pending), comm.size))
        return pending

    # Rank 0's list for all: a rank that looked later would miss what others have written by then.
    first = on_first_rank(comm, share_out, "making the feature store")
    pending: list[int] = comm.all_gather_objects(first, "sharing the clips out")[0]
    store = FeatureStore.open(out, require_complete=False)
    tally = _extract_share(store, videos, pending, backbone, options, comm)
    tallies = comm.all_gather_objects(tally, "gathering the reports of extraction")
    store.lengths = store.read_lengths()
    if comm.rank == 0:
        _report(store, tallies, time.perf_counter() - start)
    if not store.lengths.any():
        raise DataError(f"every clip of {videos} failed; the first: {_first_failure(tallies)}")
    return store


def _splits(found: LabelledClips, options: ExtractOptions) -> list[int]:
    if options.splits is None:
        drawn: list[int] = stratified_split(found.labels, options.test_fraction, options.seed).tolist()
        return drawn
    splits, missing = assign_splits(found.clips, read_split_files(options.splits, options.split))
    if missing:
        _warn(f"{options.splits} names clips that {found.root} lacks: {len(missing)}, the first {missing[0]}")
    return splits


def _opening(store: FeatureStore, pending: int, ranks: int) -> str:
    counts = Counter(store.splits.tolist())
    there = "" if pending == len(store) else f", {len(store) - pending} there already"
    classes, noun = len(store.class_names), "rank" if ranks == 1 else "ranks"
    return (
        f"{len(store)} clips of {classes} classes{there}: "
        f"{counts[1]} train, {counts[2]} test, {counts[0]} unused; {ranks} {noun}"
    )


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # decoding it will say what is wrong


def _create_or_continue(
    out: Path, found: LabelledClips, splits: list[int], backbone: Backbone, options: ExtractOptions
) -> FeatureStore:
    stored_options = {**backbone.describe(), "frames": options.frames, "size": options.size}
    if not (out / "store.json").exists():
        return FeatureStore.create(
            out,
            clips=found.clips,
            labels=found.labels,
            splits={str(options.split) if options.splits else "drawn": splits},
            class_names=found.class_names,
            frames=options.frames,
            feature_size=backbone.feature_size,
            options=stored_options,
        )
    store = FeatureStore.open(out, require_complete=False)
    difference = _first_difference(store.options, stored_options) or _first_difference(
        {"clips": store.clips, "splits": store.splits.tolist()}, {"clips": found.clips, "splits": splits}
    )
    if difference:
        raise DataError(f"{out} was made with {difference}; choose another folder or delete it")
    store.mark_pending(store.failed())
    return store


def _first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Say in words what differs first, None if nothing; `wanted` as it would come back out of JSON."""
    wanted = json.loads(json.dumps(wanted))
    for key in dict.fromkeys([*wanted, *stored]):
        # Where the weights came from does not matter, as long as they are the same: weights_sha256 tells.
        if key == "weights" or stored.get(key) == wanted.get(key):
            continue
        if key == "weights_sha256":
            return f"other weights ({stored['weights']} then, {wanted['weights']} now)"
        if key in ("clips", "splits"):
            return f"other {key} ({len(stored[key])} then, {len(wanted[key])} now)"
        return f"{key} {stored.get(key)}, now asked for {wanted.get(key)}"
    return None


def _extract_share(
    store: FeatureStore,
    videos: Path,
    pending: list[int],
    backbone: Backbone,
    options: ExtractOptions,
    comm: Communicator,
) -> _Tally:
    """Extract every `comm.size`-th clip of `pending`, then wait for the other ranks."""
    tally = _Tally()
    with progress_bar(len(pending), "extracting", "clip", comm.rank) as bar:

        def count_done() -> int:
            done = len(pending) - len(store.pending())
            bar.update(done - bar.n)
            return done

        for index in pending[comm.rank :: comm.size]:
            clip = store.clips[index]
            try:
                features, warning = features_of_clip(videos / clip, backbone, options.frames, options.size)
            except DecodeError as error:
                if options.strict:
                    raise
                tally.failures[clip] = str(error).removeprefix(f"{videos / clip}: ")
                store.mark_failed(index)
            else:
                store.write_clip(index, features)
                tally.clips += 1
                tally.frames += len(features)
                if warning:
                    tally.warnings[clip] = warning
            if comm.rank == 0:
                count_done()
        _wait_for_others(count_done, len(pending))
    return tally


def _wait_for_others(count_done: Callable[[], int], total: int) -> None:
    """Wait while other ranks still write clips.

    Their last clips may take longer than a collective call is allowed to wait, so look at the store until
    it is full; where it stands still, a rank is gone, and the collective call that follows says which.
    """
    done, since = count_done(), time.monotonic()
    while done < total and time.monotonic() - since < _STALL_S:
        time.sleep(_POLL_S)
        now = count_done()
        if now > done:
            done, since = now, time.monotonic()


def _report(store: FeatureStore, tallies: Sequence[_Tally], seconds: float) -> None:
    failures = {clip: reason for tally in tallies for clip, reason in tally.failures.items()}
    warnings = {clip: warning for tally in tallies for clip, warning in tally.warnings.items()}
    store.write_failures(failures)
    for clip in sorted(warnings)[:_LISTED]:
        _warn(f"{clip}: {warnings[clip]}")
    if len(warnings) > _LISTED:
        _warn(f"and {len(warnings) - _LISTED} more clips of which not all frames could be decoded")
    if failures:
        _warn(f"{len(failures)} of {len(store)} clips could not be decoded and are left out:")
        for clip in sorted(failures):
            print(f"  {clip}: {failures[clip]}", file=sys.stderr, flush=True)
    clips, frames = sum(tally.clips for tally in tallies), sum(tally.frames for tally in tallies)
    _say(
        f"{clips} clips, {frames} frames in {seconds:.1f} s ({frames / seconds:.1f} frames/s); "
        f"{int((store.lengths > 0).sum())} of {len(store)} clips are in {store.folder}"
    )


def _first_failure(tallies: Sequence[_Tally]) -> str:
    failures = sorted(item for tally in tallies for item in tally.failures.items())
    return ": ".join(failures[0]) if failures else "none of them is pending"


def features_of_clip(
    path: str | os.PathLike[str], backbone: Backbone, frames: int, size: int
) -> tuple[npt.NDArray[np.float32], str | None]:
    """Return the features (n, F), n <= frames, of one video file, and a warning where it ended early.

    Raises `DecodeError` where no frame can be decoded.
    """
    clip = decode_clip(path, frames, size)
    return backbone.features(clip.frames), clip.warning


def features_of_clips(
    paths: Sequence[str | os.PathLike[str]],
    backbone: Backbone,
    frames: int,
    size: int,
    warn: Callable[[str], None] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Return the features (n_i, F) of each video file, in memory.

    `warn` is given one line for every file that ended early (default: to standard error). Raises
    `DecodeError` for the first file of which no frame can be decoded.
    """
    result = []
    for path in paths:
        features, warning = features_of_clip(path, backbone, frames, size)
        if warning:
            (warn or _warn)(f"{path}: {warning}")
        result.append(features)
    return result


def backbone_from_options(
    options: Mapping[str, Any], weights: str | None = None, comm: Communicator | None = None
) -> Backbone:
    """Load the backbone that a store's `options` describe; `weights` overrides where its weights come from.

    Collective over `comm`. Raises `DataError` where the weights are gone or are not those of the store.
    """
    try:
        name, source, layer = options["backbone"], options["weights"], options["layer"]
        expected = options["weights_sha256"]
    except KeyError as error:
        raise DataError(f"these features come from no backbone of seqbraid (no option {error})") from error
    if weights is None and Path(source).is_absolute() and not Path(source).is_file():
        raise DataError(f"the {name} weights {source} are gone; pass the same ones with --weights FILE")
    backbone = load_backbone(name, weights or source, layer, comm)
    if backbone.weights_sha256 != expected:
        raise DataError(
            f"the {name} weights {backbone.weights} have sha256 {backbone.weights_sha256}, but the features "
            f"were made with {expected}; pass the same weights with --weights FILE"
        )
    return backbone


def _say(line: str) -> None:
    print(line, flush=True)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
