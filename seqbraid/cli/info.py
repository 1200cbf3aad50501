"""Show what this installation uses, or what a feature store or a run folder holds.

example:
  seqbraid info
  mpiexec -n 4 seqbraid info
  seqbraid info features/
  seqbraid info run/
"""

from __future__ import annotations

import argparse
import platform
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_threads_argument

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show versions, MPI and threads, or what a store or run holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid info`."""
    parser.add_argument(
        "path", type=Path, nargs="?", metavar="DATA|RUN", help="feature store, .npz file or run folder"
    )
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    from seqbraid.comm import world
    from seqbraid.errors import DataError
    from seqbraid.threads import set_threads

    communicator = world()
    threads = set_threads(options.threads)
    if options.path is None:
        places = communicator.all_gather_objects((socket.gethostname(), threads), "info")
        rows = _installation(places)
    elif not options.path.exists():
        raise DataError(
            f"{options.path} does not exist; expected a feature store, an .npz file or a run folder"
        )
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


def _installation(places: list[tuple[str, int]]) -> list[tuple[str, str]]:
    import torch

    from seqbraid.threads import available_cores

    hosts = [host for host, _ in places]
    layout = ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    opencv = _version("opencv-python-headless")
    return [
        ("seqbraid", _version("seqbraid")),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("torch", torch.__version__),
        ("torchvision", _version("torchvision")),
        ("opencv", _version("opencv-python") if opencv == "not installed" else opencv),
        ("mpi4py", _version("mpi4py")),
        ("MPI", _mpi_library()),
        ("ranks", f"{len(places)} ({layout})"),
        ("threads a rank", ", ".join(sorted({str(threads) for _, threads in places}))),
        ("cores", str(available_cores())),
        ("CUDA device", cuda),
        *((f"kernels, {dtype}", _kernels(getattr(torch, dtype))) for dtype in ("float32", "float64")),
    ]


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

    if path.is_dir():
        return _store(FeatureStore.open(path, require_complete=False))
    dataset = open_dataset(path)
    return [
        ("sequences", f"{len(dataset.train)} train, {len(dataset.test)} test"),
        ("steps", f"up to {dataset.steps}"),
        ("features", str(dataset.feature_size)),
        ("classes", ", ".join(dataset.class_names)),
    ]


def _store(store: Any) -> list[tuple[str, str]]:
    lengths, splits = store.lengths, store.splits
    done = lengths > 0
    counts = (
        f"{len(store)} ({int((done & (splits == 1)).sum())} train, {int((done & (splits == 2)).sum())} test, "
        f"{int((done & (splits == 0)).sum())} unused, {int((lengths == 0).sum())} failed, "
        f"{int((lengths < 0).sum())} pending)"
    )
    range_of_lengths = f"{lengths[done].min()} to {lengths[done].max()}" if done.any() else "none yet"
    return [
        ("clips", counts),
        ("features", f"{store.shape[2]} a frame, room for {store.shape[1]} frames a clip"),
        ("true lengths", range_of_lengths),
        ("classes", ", ".join(store.class_names)),
        *((name, str(value)) for name, value in store.options.items()),
    ]


def _run_folder(path: Path) -> list[tuple[str, str]]:
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
    return rows
