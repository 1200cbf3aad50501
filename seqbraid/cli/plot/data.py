"""Draw what a data set holds: clips of each class, true lengths, and a sample of every class.

DATA is what `seqbraid train` takes; a feature store may be incomplete. Of a store of videos, the samples are
frames of one clip a class, decoded from the videos, which are looked for where `seqbraid preprocess` found
them or in --videos; where they are gone, the picture has no samples. Of other data they are one sequence a
class, its channels as lines. Of more than twelve classes, twelve are sampled.

The picture is written into the current folder unless --output says otherwise; the ending of its name (.png,
.pdf, .svg) tells the format. It needs matplotlib. Under mpiexec, rank 0 draws.

example:
  seqbraid plot data features/
  seqbraid plot data features/ --split 2 --videos /mnt/hmdb51 --output split2.pdf
  seqbraid plot data har.npz
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqbraid.data.store import FeatureStore

__all__ = ["HELP", "add_arguments", "run"]

HELP = "clips of each class, true lengths, and a sample of every class"

_REMEDY = "the picture has no frames; name the folder of the videos with --videos DIR"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid plot data`."""
    parser.add_argument(
        "data", type=Path, metavar="DATA", help="feature store, or arrays as for seqbraid train"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the picture (default: DATA-data.png in the current folder)",
    )
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="DIR",
        help="where the videos of a store are now (default: as preprocessed)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="which of a feature store's splits (default: the one that the store names)",
    )


def run(options: argparse.Namespace) -> None:
    """Print a table and draw the picture."""
    from seqbraid.plots.figure import require_plot

    output = options.output or Path(f"{_name(options.data)}-data.png")
    require_plot(output, "output")
    from seqbraid.data.contents import contents_of_dataset, contents_of_store, table_of_parts
    from seqbraid.data.dataset import open_dataset
    from seqbraid.data.samples import Frames, Lines, sample_lines
    from seqbraid.errors import OptionsError
    from seqbraid.plots.contents import draw_contents
    from seqbraid.text import lines_of_table

    store = _open_store(options.data)
    if store is None:
        contents = contents_of_dataset(open_dataset(options.data, options.split))
    else:
        contents = contents_of_store(store, options.split)
    samples: Frames | Lines | None = None
    if store is None or "backbone" not in store.options:
        if options.videos is not None:
            raise OptionsError(f"`videos={options.videos}`: {options.data} is no feature store of videos")
        samples = sample_lines(contents)
    else:
        videos = _find_videos(store, options.videos)
        if videos is not None:
            from preprocess.samples import sample_frames

            samples = sample_frames(contents, store, videos)
            if not samples.clips:
                warnings.warn(
                    f"no clip of {options.data} can be decoded in {videos}: {_REMEDY}", stacklevel=1
                )
    title = f"{options.data}: {len(contents)} sequences of {len(contents.class_names)} classes"
    if store is not None:
        title += f", split {options.split or store.split}"
    print(title)
    header = ["", "sequences", "shortest", "median", "longest"]
    print(*lines_of_table([header, *table_of_parts(contents)], left=()), "", sep="\n")
    draw_contents(contents, samples, title, output)
    print(f"{output} written")


def _name(data: Path) -> str:
    data = data.resolve()
    return data.name if data.is_dir() else data.stem


def _open_store(data: Path) -> FeatureStore | None:
    """Open a store, complete or not; None for other data."""
    from seqbraid.data.store import FeatureStore
    from seqbraid.data.store_header import HEADER

    return FeatureStore.open(data, require_complete=False) if (data / HEADER).is_file() else None


def _find_videos(store: FeatureStore, given: Path | None) -> Path | None:
    """Return the folder of the videos; None, after a line that says so, where they are gone."""
    from seqbraid.errors import DataError

    if given is not None:
        if not given.is_dir():
            raise DataError(f"`videos={given}` is not a folder; expected the folder of the videos")
        return given
    if store.source is None:
        warnings.warn(f"{store.folder} does not tell where its videos are: {_REMEDY}", stacklevel=1)
    elif not Path(store.source).is_dir():
        warnings.warn(f"the videos are no longer in {store.source}: {_REMEDY}", stacklevel=1)
    else:
        return Path(store.source)
    return None
