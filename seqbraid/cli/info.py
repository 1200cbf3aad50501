"""Show what this installation uses, or what a feature store, arrays or a run folder hold.

With --check, every clip of a feature store is read and compared with the checksum that was written with it.
Where clips do not match, they are listed and the exit code is 2.

On several ranks it shows on which machine and cores each of them runs, and with how many threads.

example:
  seqbraid info
  seqbraid launch -n 4 --threads 2 -- info
  seqbraid info features/
  seqbraid info features/ --check
  seqbraid info run/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from seqbraid.cli.arguments import add_options
from seqbraid.options import ThreadOptions, options_of

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show versions, MPI, threads and pinning, or what a store or run holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid info`."""
    parser.add_argument(
        "path", type=Path, nargs="?", metavar="DATA|RUN", help="feature store, arrays or run folder"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare every clip of a feature store with its checksum"
    )
    add_options(parser, options_of(ThreadOptions))


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    from seqbraid.comm import launched_rank, world
    from seqbraid.data.description import describe_data
    from seqbraid.errors import DataError
    from seqbraid.installation import describe_installation
    from seqbraid.runs.description import describe_run
    from seqbraid.threads import set_threads
    from seqbraid.train import RunFolder

    if options.check:
        # By the launcher's word: the other ranks leave, and no MPI is started that would hold them.
        if launched_rank() == 0:
            _check(options.path)
        return
    communicator = world()
    threads = set_threads(options.threads)
    if options.path is None:
        rows = describe_installation(communicator, threads)
    elif not options.path.exists():
        raise DataError(f"{options.path} does not exist; expected a feature store, arrays or a run folder")
    elif (run := RunFolder(options.path)).holds_a_run:
        rows = describe_run(options.path)
        if run.stopped_by is not None:
            goes_on = f"`seqbraid train --output {options.path} --resume` goes on"
            rows.append(("stopped", f"by {run.stopped_by}; {goes_on}"))
    else:
        rows = describe_data(options.path)
    if communicator.rank == 0:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"{name:<{width}}  {value}")


def _check(path: Path | None) -> None:
    """Compare every clip with its checksum; raises `DataError` after a list of those that do not match."""
    from seqbraid.data.store import FAILED, PENDING, FeatureStore
    from seqbraid.data.store_header import HEADER
    from seqbraid.errors import DataError, OptionsError
    from seqbraid.progress import progress_bar

    if path is None:
        raise OptionsError("`check` needs a feature store: `seqbraid info DATA --check`")
    if not (path / HEADER).is_file():
        raise DataError(f"{path} is no feature store (no {HEADER}), and only those have checksums to `check`")
    store = FeatureStore.open(path, require_complete=False)
    with progress_bar(len(store), "checking", "clip") as bar:
        damaged = store.damaged(bar.update)
    failed, pending = ((store.lengths == state).sum() for state in (FAILED, PENDING))
    done = len(store) - failed - pending
    for index in damaged:
        print(store.clips[index])
    if damaged:
        raise DataError(
            f"{len(damaged)} of {done} clips in {path} do not match their checksums; "
            "`seqbraid preprocess ... --check` does them again"
        )
    others = f" ({failed} failed, {pending} pending)" if failed or pending else ""
    print(f"all {done} clips match their checksums{others}")
