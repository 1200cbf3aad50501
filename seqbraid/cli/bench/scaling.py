"""Strong scaling of MGRIT on simulated ranks: one pass of one layer on 1, 2, 4, ... of them.

Every rank runs in this process, one at a time, and has a virtual clock: its own compute is timed alone, a
message arrives --latency and bytes/--bandwidth after it was sent. The time of a pass is that of the slowest
clock; the speedup is over our own serial path on one rank, measured in turn with it. A crowded network, and
ranks that share a memory bus, are not modelled.

Of several coarsenings, the table shows for each number of ranks the fastest whose weight gradients are
within --error-bound of the serial ones; --all shows all. Judge errors with --update-gate-bias 4 or so,
which gives the long memory of a trained layer: at torch's own start it is so short that any setting is
exact.

With --coarsening auto, alone or beside numbers, a model of the costs chooses a solver for each number of
ranks. What it predicts, for one thread, float32 and the machine that the model was fitted on, stands next to
what was simulated. --levels 1 is the exact serial solver, groups of sequences going from rank to rank; only
the products over all steps are then parallel.

comp:comm is the time that all ranks compute over the time that all communicate or wait.

example:
  seqbraid bench scaling --size 65536,1,9,64 --coarsening 16 32 64 128 --plot scaling.png
  seqbraid bench scaling --ranks 8 64 --coarsening auto 64 128 --all
  seqbraid bench scaling --ranks 1 8 64 --latency 1e-5 --coarsening 16 --forward-iterations 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from seqbraid.cli.arguments import add_options, positive, whole
from seqbraid.cli.bench.output import (
    add_layer_arguments,
    add_measuring_arguments,
    conditions,
    require_one_process,
    set_up,
    size,
    write_json,
)
from seqbraid.options import NetworkOptions, options_of
from seqbraid.options.commands import mgrit_options

if TYPE_CHECKING:
    from seqbraid.options import MGRIT, Serial

__all__ = ["HELP", "add_arguments", "run"]

HELP = "MGRIT on up to hundreds of simulated ranks"

_RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid bench scaling`."""
    parser.add_argument(
        "--size", type=size, default=(8192, 1, 9, 64), metavar="T,B,I,H", help="(default: 8192,1,9,64)"
    )
    parser.add_argument(
        "--ranks",
        type=whole(1, 4096),
        nargs="+",
        default=list(_RANKS),
        metavar="P",
        help=f"(default: {' '.join(map(str, _RANKS))})",
    )
    parser.add_argument(
        "--error-bound",
        type=positive,
        default=2e-2,
        metavar="E",
        help="largest relative error of the weight gradients (default: %(default)g)",
    )
    parser.add_argument("--all", action="store_true", help="show every coarsening")
    add_options(parser, options_of(NetworkOptions))
    add_layer_arguments(parser, gate_bias=4.0)
    add_options(parser, mgrit_options([16, 32, 64], auto=True))
    add_measuring_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    import time

    import torch

    from seqbraid import bench
    from seqbraid.bench.records import point_to_dict
    from seqbraid.bench.tables import table_of_points
    from seqbraid.options import solver_to_dict
    from seqbraid.options.words import describe_solver
    from seqbraid.progress import progress_bar
    from seqbraid.rnn.choosing import choose_as_asked, chosen_as_asked, mgrit_as_asked

    require_one_process("bench scaling")
    measured_with = set_up(options)
    numbered = mgrit_as_asked(vars(options))
    ranks = list(dict.fromkeys(options.ranks))
    choices = {each: choose_as_asked(vars(options), options.size, each) for each in ranks}
    chosen = {each: chosen_as_asked(vars(options), choice) for each, choice in choices.items() if choice}
    solvers: list[MGRIT | Callable[[int], Serial | MGRIT]] = list(numbered)
    if chosen:
        solvers.append(chosen.__getitem__)
    layer = bench.Layer(
        bench.Size(*options.size),
        "classic",
        options.update_gate_bias,
        getattr(torch, options.dtype),
        options.seed,
    )
    # With more threads than one, this thread's time leaves out what the others do.
    timer = time.thread_time if options.threads == 1 else time.perf_counter
    passes = len(ranks) * (len(solvers) + options.repeats * (len(solvers) + 1))
    with progress_bar(passes, "bench scaling", "run") as bar:
        points = bench.scale(
            layer, solvers, ranks, options.repeats, options.latency, options.bandwidth, timer, bar.update
        )
    fastest = bench.fastest_within(points, options.error_bound)
    title = (
        f"T,B,I,H = {layer.size}, classic cell, update-gate bias {options.update_gate_bias:+g}, "
        f"{options.dtype}"
    )
    print(
        "SIMULATED ranks, virtual time; "
        f"latency {options.latency:g} s, {options.bandwidth:g} bytes a second\n"
        f"{title}; forward plus backward, loss on the last state\n"
        f"{measured_with}; milliseconds, least in brackets"
    )
    if numbered:
        print(describe_solver(numbered[0], [solver.coarsening_of(0) for solver in numbered]))
    for choice in choices.values():
        if choice is not None:
            print(choice)
    print()
    print(*table_of_points(points, fastest, options.all, options.error_bound), sep="\n")
    if options.json is not None:
        record = {
            **conditions(options),
            "simulated": True,
            **vars(layer.size),
            "latency": options.latency,
            "bandwidth": options.bandwidth,
            "error_bound": options.error_bound,
            "solvers": [solver_to_dict(solver) for solver in numbered],
            "chosen": {each: solver_to_dict(solver) for each, solver in chosen.items()},
            "points": [point_to_dict(point, point in fastest) for point in points],
        }
        write_json(options.json, record)
    if options.plot is not None:
        from seqbraid.bench.drawing import draw_scaling

        draw_scaling(points, fastest, options.error_bound, title, options.plot)
        print(f"{options.plot} written")
