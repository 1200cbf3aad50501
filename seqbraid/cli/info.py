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
import os
import platform
import socket
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbraid import __version__
from seqbraid.cli.arguments import add_threads_argument

if TYPE_CHECKING:
    from seqbraid.data.store import FeatureStore

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show versions, MPI, threads and pinning, or what a store or run holds"

_LISTED = 10

# Of one rank: the machine, its threads, and the numbers of the cores it may run on.
Place = tuple[str, int, list[int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid info`."""
    parser.add_argument(
        "path", type=Path, nargs="?", metavar="DATA|RUN", help="feature store, arrays or run folder"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare every clip of a feature store with its checksum"
    )
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    from seqbraid.comm import launched_rank, world
    from seqbraid.errors import DataError
    from seqbraid.launching.cores import affinity
    from seqbraid.threads import set_threads

    if options.check:
        # By the launcher's word: the other ranks leave, and no MPI is started that would hold them.
        if launched_rank() == 0:
            _check(options.path)
        return
    communicator = world()
    threads = set_threads(options.threads)
    if options.path is None:
        places = communicator.all_gather_objects((socket.gethostname(), threads, affinity()), "info")
        rows = _installation(places)
    elif not options.path.exists():
        raise DataError(f"{options.path} does not exist; expected a feature store, arrays or a run folder")
    elif (options.path / "options.json").is_file():
        rows = _run_folder(options.path)
    else:
        rows = _data(options.path)
    if communicator.rank == 0:
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"{name:<{width}}  {value}")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _installation(places: list[Place]) -> list[tuple[str, str]]:
    import torch

    hosts = [host for host, _, _ in places]
    layout = ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    opencv = _version("opencv-python-headless")
    return [
        ("seqbraid", __version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("torch", torch.__version__),
        ("torchvision", _version("torchvision")),
        ("opencv", _version("opencv-python") if opencv == "not installed" else opencv),
        ("mpi4py", _version("mpi4py")),
        ("MPI", _mpi_library()),
        ("ranks", f"{len(places)} ({layout})"),
        ("threads a rank", ", ".join(sorted({str(threads) for _, threads, _ in places}))),
        *_pinning(places),
        ("CUDA device", cuda),
        *((f"kernels, {dtype}", _kernels(getattr(torch, dtype))) for dtype in ("float32", "float64")),
    ]


def _pinning(places: list[Place]) -> list[tuple[str, str]]:
    from seqbraid.text import count

    taken = Counter((host, core) for host, _, cores in places for core in cores)
    used = Counter(host for host, _ in taken)
    rows = [("cores", ", ".join(f"{number} on {host}" for host, number in used.items()))]
    if len(places) == 1:
        [(_, _, cores)] = places
        pinned = len(cores) != os.cpu_count()
        return [*rows, ("pinning", f"to {_named(cores)}" if pinned else "none")]
    disjoint = max(taken.values()) == 1
    rows.append(("pinning", "each rank has cores of its own" if disjoint else "none: ranks share cores"))
    for rank, (host, threads, cores) in enumerate(places):
        rows.append((f"rank {rank}", f"{host}, {count(threads, 'thread')}, {_named(cores)}"))
    return rows


def _named(cores: list[int]) -> str:
    from seqbraid.launching.cores import ranges

    return f"core{'' if len(cores) == 1 else 's'} {ranges(cores)}"


def _kernels(dtype: Any) -> str:
    from seqbraid.kernels import active, why_plain

    if active("cpu", dtype) == "fused":
        return f"fused on the CPU, compiled by Numba {_version('numba')}"
    return f"plain, in PyTorch's own operations: {why_plain('cpu', dtype)}"


def _mpi_library() -> str:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return "no library found; pip install 'seqbraid[mpich]' brings one"
    return str(MPI.Get_library_version()).split(",")[0].splitlines()[0].strip()


def _data(path: Path) -> list[tuple[str, str]]:
    from seqbraid.data.dataset import open_dataset
    from seqbraid.data.store import FeatureStore
    from seqbraid.data.store_header import HEADER

    if (path / HEADER).is_file():
        return _store(FeatureStore.open(path, require_complete=False))
    dataset = open_dataset(path)
    return [
        ("sequences", f"{len(dataset.train)} train, {len(dataset.test)} test"),
        ("steps", f"up to {dataset.steps}"),
        ("features", str(dataset.feature_size)),
        ("classes", ", ".join(dataset.class_names)),
    ]


def _store(store: FeatureStore) -> list[tuple[str, str]]:
    from seqbraid.data.contents import PARTS, contents_of_store
    from seqbraid.data.store import PENDING

    def counts(split: str, parts: tuple[str, ...]) -> str:
        contents = contents_of_store(store, split)
        return ", ".join(f"{contents.count(part)} {part}" for part in parts)

    lengths = store.lengths[store.lengths > 0]
    rows = [
        ("clips", f"{len(store)} ({counts(store.split, PARTS)})"),
        ("features", f"{store.shape[2]} a frame, room for {store.shape[1]} frames a clip"),
        ("dtype", store.dtype.name),
        ("size on disk", _size_on_disk(store.folder)),
        ("true lengths", f"{lengths.min()} to {lengths.max()}" if len(lengths) else "none yet"),
        ("classes", ", ".join(store.class_names)),
    ]
    for name in store.split_names:
        default = "; the default" if name == store.split else ""
        rows.append((f"split {name}", counts(name, ("train", "test", "unused")) + default))
    if store.subjects is not None:
        rows.append(("subjects", _subjects(store, store.subjects)))
    rows.append(("source", store.source or "unknown"))
    rows += [(name, str(value)) for name, value in store.options.items()]
    pending = int((store.lengths == PENDING).sum())
    if pending:
        rows.append(("pending", f"{pending}; the same `seqbraid preprocess` command again does them"))
    return rows + _failed(store)


def _size_on_disk(folder: Path) -> str:
    # Blocks in use, since what no clip was written to yet takes no room. What is being written may be gone
    # a moment later.
    paths = [path for path in folder.iterdir() if path.suffix != ".new"]
    size = float(sum(512 * path.stat().st_blocks for path in paths))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _subjects(store: FeatureStore, subjects: list[Any]) -> str:
    from seqbraid.data.splits import TEST, TRAIN

    shared = []
    for name in store.split_names:
        marks = store.marks(name).tolist()
        train, test = (
            {subject for subject, mark in zip(subjects, marks, strict=True) if mark == wanted}
            for wanted in (TRAIN, TEST)
        )
        shared.append(f"{len(train & test) or 'none'} in split {name}")
    return f"{len(set(subjects))}, of whom train and test share {', '.join(shared)}"


def _failed(store: FeatureStore) -> list[tuple[str, str]]:
    from seqbraid.data.store import FAILED

    reasons = store.failures()
    failed = [store.clips[index] for index in (store.lengths == FAILED).nonzero()[0]]
    rows = [("failed", f"{clip}: {reasons.get(clip, 'for an unknown reason')}") for clip in failed[:_LISTED]]
    if len(failed) > _LISTED:
        rows.append(("failed", f"and {len(failed) - _LISTED} more"))
    return rows


def _check(path: Path | None) -> None:
    """Compare every clip with its checksum; raises `DataError` after a list of those that do not match."""
    from seqbraid.data.store import FAILED, PENDING, FeatureStore
    from seqbraid.data.store_header import HEADER
    from seqbraid.errors import DataError, OptionsError
    from seqbraid.progress import progress_bar

    if path is None:
        raise OptionsError("--check needs a feature store: `seqbraid info DATA --check`")
    if not (path / HEADER).is_file():
        raise DataError(f"{path} is no feature store (no {HEADER}), and only those have checksums to --check")
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


def _run_folder(path: Path) -> list[tuple[str, str]]:
    from seqbraid.text import count
    from seqbraid.train import RunFolder

    run_folder = RunFolder(path)
    options = run_folder.options()
    rows = [(name, str(value)) for name, value in options.items() if not isinstance(value, (dict, list))]
    rows.append(("classes", ", ".join(options["class_names"])))
    for group in ("features", "model", "solver", "training"):
        rows += [(f"{group} {name}", str(value)) for name, value in options[group].items()]
    for epoch in run_folder.metrics():
        rows.append(
            (
                f"epoch {epoch['epoch']}",
                f"loss {epoch['train_loss']:.4f}, test accuracy {epoch['test_accuracy']:.4f}",
            )
        )
    if updates := run_folder.checkpoints(keep=1).updates():
        rows.append(("checkpoints", f"after {count(updates[-1], 'update')}, {len(updates)} kept"))
    if run_folder.stopped_by is not None:
        goes_on = f"`seqbraid train --output {path} --resume` goes on"
        rows.append(("stopped", f"by {run_folder.stopped_by}; {goes_on}"))
    return rows
