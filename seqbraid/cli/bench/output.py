"""What the benchmarks share: options, the lines above a table, the table, the JSON file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_options, argument_type, whole
from seqbraid.options import ModelOptions, ThreadOptions, TrainingOptions, options_of
from seqbraid.options.declaring import Group
from seqbraid.options.kinds import FINITE, Whole

__all__ = [
    "add_layer_arguments",
    "add_measuring_arguments",
    "check_files",
    "conditions",
    "require_one_process",
    "set_up",
    "size",
    "write_json",
]

SizeTuple = tuple[int, int, int, int]


def size(text: str) -> SizeTuple:
    """Argparse type for the size of a layer, T,B,I,H."""
    whole_number = whole(1, 10**9)
    try:
        T, B, inputs, hidden = (whole_number(word) for word in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; expected T,B,I,H: steps, sequences, inputs and hidden units, "
            "four whole numbers from 1"
        ) from None
    return T, B, inputs, hidden


def add_layer_arguments(parser: argparse.ArgumentParser, gate_bias: float, cell: bool = False) -> None:
    """Add the options of the layer but its size; with `cell` the choice of its cell."""
    layer = parser.add_argument_group("layer")
    shared = options_of(ModelOptions, "cell") if cell else []
    seed = options_of(TrainingOptions, "seed")[0].but(help="of weights and input", kind=Whole(0, 2**62))
    add_options(parser, [each.but(group=Group("layer")) for each in (*shared, seed)])
    layer.add_argument(
        "--update-gate-bias",
        type=argument_type(FINITE),
        default=gate_bias,
        metavar="X",
        help="added to the update gate's bias; the larger, the longer the memory (default: %(default)g)",
    )
    layer.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(default: float32)"
    )


def add_measuring_arguments(parser: argparse.ArgumentParser, repeats: int = 5) -> None:
    """Add --repeats, --threads, --json and --plot."""
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--repeats",
        type=whole(1, 10**6),
        default=repeats,
        metavar="N",
        help="passes that count, of each contender (default: %(default)s)",
    )
    [threads] = options_of(ThreadOptions)
    add_options(parser, [threads.but(group=Group("measuring"), default=1, help="OpenMP threads")])
    measuring.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    measuring.add_argument("--plot", type=Path, metavar="FILE", help="draw it; needs matplotlib")


def check_files(options: argparse.Namespace) -> None:
    """Raise `OptionsError` where --json or --plot could not be written, before the work."""
    from seqbraid.files import require_place
    from seqbraid.plots.figure import require_plot

    if options.json is not None:
        require_place(options.json, "json")
    if options.plot is not None:
        require_plot(options.plot)


def require_one_process(benchmark: str) -> None:
    """Raise `OptionsError` under mpiexec: ranks beside one another would disturb the measurement."""
    from seqbraid.comm import launched_ranks
    from seqbraid.errors import OptionsError

    if launched_ranks() > 1:
        raise OptionsError(
            f"{benchmark} measures one process, but {launched_ranks()} ranks were started; "
            "leave out mpiexec, or take bench parallel"
        )


def set_up(options: argparse.Namespace) -> str:
    """Set the threads, and return the words for the conditions of the measurement."""
    from seqbraid.threads import available_cores, set_threads

    threads = set_threads(options.threads)
    repeats = "one repeat" if options.repeats == 1 else f"{options.repeats} repeats in turn"
    return (
        f"{threads} thread{'s' if threads > 1 else ''} of {available_cores()} cores; "
        f"medians of {repeats}, after one that does not count"
    )


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the JSON file of every benchmark begins with."""
    import torch

    from seqbraid.threads import available_cores
    from seqbraid.version import __version__

    wanted = ("cell", "update_gate_bias", "dtype", "seed", "repeats", "threads")
    return {
        "benchmark": options.benchmark,
        "seqbraid": __version__,
        "torch": torch.__version__,
        "cores": available_cores(),
        **{name: getattr(options, name) for name in wanted if hasattr(options, name)},
    }


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write the JSON file and say so."""
    from seqbraid.files import write_text

    write_text(path, json.dumps(record, indent=1) + "\n")
    print(f"{path} written")
