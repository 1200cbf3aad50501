"""Microseconds a step of one layer in one process, forward plus backward to all parameters.

Contenders: torch.nn.GRU, seqbraid.GRU with Serial(), the same with MGRIT() on one rank, and the layer as a
lax.scan compiled by JAX, where jax is installed. The floor is what the matrix products of a step would take
at the rate of one large product. With --cell implicit, torch.nn.GRU still has its own cell.

--lengths adds a table of sequences of unequal length (uniform from T/4 to T, one of them T): ours takes
them as `lengths`, torch.nn.GRU as packed sequences. --doubling adds one of longer and longer sequences
(B=1, I=9, H=64); a factor of 2 means that the cost of a step does not depend on the sequence. --profile
lists the functions in which our own passes spend most time; their times are larger than without the
profiler.

example:
  seqbraid bench serial --size 8192,1,9,64 1024,8,64,64 --coarsening 32
  seqbraid bench serial --size 2000,16,64,64 --lengths --profile
  seqbraid bench serial --doubling 4096,65536 --json serial.json --plot serial.png
"""

from __future__ import annotations

import argparse
import dataclasses

from seqbraid.cli.arguments import add_options, whole
from seqbraid.cli.bench.output import (
    add_layer_arguments,
    add_measuring_arguments,
    conditions,
    require_one_process,
    set_up,
    size,
    write_json,
)
from seqbraid.options.commands import mgrit_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = "one layer in one process, against torch.nn.GRU"

_SIZES = (
    (8192, 1, 9, 64),
    (1024, 8, 64, 64),
    (8192, 8, 64, 64),
    (128, 100, 9, 100),
    (128, 100, 1000, 100),
    (128, 100, 512, 512),
)
_SIZE_OF_LENGTHS = (2000, 16, 64, 64)
_SIZE_OF_DOUBLING = (1, 9, 64)


def _doubling(text: str) -> list[int]:
    """Argparse type for FROM,TO: the steps from the first, doubled up to the second."""
    whole_number = whole(1, 2**40)
    try:
        first, last = (whole_number(word) for word in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        first, last = 1, 0
    if first > last:
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM,TO, two whole numbers, the smaller one first")
    steps = [first]
    while 2 * steps[-1] <= last:
        steps.append(2 * steps[-1])
    return steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid bench serial`."""
    shown = " ".join(",".join(map(str, each)) for each in _SIZES)
    parser.add_argument("--size", type=size, nargs="+", metavar="T,B,I,H", help=f"(default: {shown})")
    parser.add_argument(
        "--lengths",
        action="store_true",
        help="add the table of unequal lengths (without --size: of 2000,16,64,64)",
    )
    parser.add_argument(
        "--doubling",
        type=_doubling,
        nargs="?",
        const=_doubling("4096,262144"),
        metavar="FROM,TO",
        help="add the table of longer and longer sequences (4096,262144 where not said)",
    )
    parser.add_argument(
        "--profile", action="store_true", help="list where the time of our passes goes, size by size"
    )
    add_layer_arguments(parser, gate_bias=0.0, cell=True)
    add_options(parser, mgrit_options([16]))
    add_measuring_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from importlib.util import find_spec

    import torch

    from seqbraid import bench
    from seqbraid.bench.records import comparison_to_dict, doubling_to_dict, lengths_to_dict
    from seqbraid.bench.tables import (
        table_of_comparisons,
        table_of_doubling,
        table_of_lengths,
        table_of_profiles,
    )
    from seqbraid.mgrit import Serial
    from seqbraid.options.words import describe_solver
    from seqbraid.progress import progress_bar
    from seqbraid.rnn.choosing import mgrit_as_asked

    require_one_process("bench serial")
    measured_with = set_up(options)
    dtype = getattr(torch, options.dtype)
    [solver] = mgrit_as_asked(vars(options))

    def layer(T: int, B: int, inputs: int, hidden: int) -> bench.Layer:
        return bench.Layer(
            bench.Size(T, B, inputs, hidden), options.cell, options.update_gate_bias, dtype, options.seed
        )

    layers = [layer(*each) for each in options.size or _SIZES]
    of_lengths = [layer(*each) for each in options.size or [_SIZE_OF_LENGTHS]] if options.lengths else []
    doubled = options.doubling or []
    contenders = 3 + (find_spec("jax") is not None)
    rounds = options.repeats + 1
    rate = bench.product_rate(dtype)
    passes = rounds * (contenders * len(layers) + 6 * len(of_lengths) + 2 * len(doubled))
    with progress_bar(passes, "bench serial", "run") as bar:
        rows = [bench.compare(each, solver, options.repeats, options.threads, bar.update) for each in layers]
        lengths = [bench.compare_lengths(each, solver, options.repeats, bar.update) for each in of_lengths]
        doubling = bench.double(layer(1, *_SIZE_OF_DOUBLING), solver, doubled, options.repeats, bar.update)
    profiles = {}
    if options.profile:
        for each in layers:
            for chosen in (Serial(), solver):
                name = f"T,B,I,H = {each.size}, {type(chosen).__name__}()"
                profiles[name] = bench.profile(each.module(chosen), each)

    print(
        "microseconds a step, forward plus backward to all parameters, loss on the last state\n"
        f"{options.cell} cell, {options.dtype}; {measured_with}; least in brackets\n"
        f"{describe_solver(solver)}\n"
        f"floor: the matrix products alone, at {rate / 1e9:.3g} GFlop/s as one product of 2048 x 2048 "
        "matrices has here\n"
    )
    print(
        *table_of_comparisons(rows, rate),
        *table_of_lengths(lengths),
        *table_of_doubling(doubling),
        *table_of_profiles(profiles),
        sep="\n",
    )
    if options.json is not None:
        record = {
            **conditions(options),
            "solver": dataclasses.asdict(solver),
            "product_flops_per_second": rate,
            "sizes": [comparison_to_dict(row, rate) for row in rows],
            "lengths": [lengths_to_dict(row) for row in lengths],
            "doubling": [doubling_to_dict(row) for row in doubling],
            "profiles": {name: [vars(line) for line in lines] for name, lines in profiles.items()},
        }
        write_json(options.json, record)
    if options.plot is not None:
        from seqbraid.bench.drawing import draw_serial

        draw_serial(rows, doubling, rate, measured_with, options.plot)
        print(f"{options.plot} written")
