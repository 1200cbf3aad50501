"""MGRIT over the ranks of this job, against our own serial path with one thread on rank 0 alone.

Start it under mpiexec. Serial path and MGRIT take turns; the ranks that are not measured wait. The time of
MGRIT is the median of its slowest rank. Communication is the fraction of a pass that the solves spent in
messages and in waiting for them, averaged over the ranks.

--simulate adds the time that simulated ranks predict for the same number of ranks: what it would be if each
had a core of its own, all cores were as fast as this one, and messages took --latency and --bandwidth. More
ranks than cores share them, so there the wall time tells little.

example:
  mpiexec -n 2 seqbraid bench parallel --size 65536,1,9,64 --coarsening 32
  mpiexec -n 2 seqbraid bench parallel --simulate --json parallel.json
"""

from __future__ import annotations

import argparse

from seqbraid.cli.arguments import add_options, whole
from seqbraid.cli.bench.output import (
    add_layer_arguments,
    add_measuring_arguments,
    conditions,
    set_up,
    size,
    write_json,
)
from seqbraid.options import NetworkOptions, options_of
from seqbraid.options.commands import mgrit_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = "MGRIT over the ranks of a job, against our serial path"

_SIZES = ((8192, 1, 9, 64), (8192, 8, 64, 64))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid bench parallel`."""
    shown = " ".join(",".join(map(str, each)) for each in _SIZES)
    parser.add_argument(
        "--size", type=size, nargs="+", default=list(_SIZES), metavar="T,B,I,H", help=f"(default: {shown})"
    )
    parser.add_argument(
        "--ranks",
        type=whole(2, 10**6),
        metavar="N",
        help="an error where the job has another number (default: whatever mpiexec started)",
    )
    parser.add_argument("--simulate", action="store_true", help="add what simulated ranks predict")
    add_options(parser, options_of(NetworkOptions))
    add_layer_arguments(parser, gate_bias=4.0, cell=True)
    add_options(parser, mgrit_options([16], auto=True))
    add_measuring_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Measure on all ranks; rank 0 prints."""
    _require_ranks(options.ranks)
    import time

    import torch

    from seqbraid import bench
    from seqbraid.bench.records import run_to_dict
    from seqbraid.bench.tables import table_of_runs
    from seqbraid.comm import SimulatedWorld, world
    from seqbraid.options import solver_to_dict
    from seqbraid.options.words import describe_solver
    from seqbraid.progress import progress_bar
    from seqbraid.rnn.choosing import choose_as_asked, chosen_as_asked, mgrit_as_asked

    comm = world()
    measured_with = set_up(options)
    choices = [choose_as_asked(vars(options), each, comm.size) for each in options.size]
    solvers = [
        mgrit_as_asked(vars(options))[0] if choice is None else chosen_as_asked(vars(options), choice)
        for choice in choices
    ]
    simulated = None
    if options.simulate:
        simulated = SimulatedWorld(comm.size, options.latency, options.bandwidth, timer=time.thread_time)
    runs = []
    with progress_bar(len(options.size) * (options.repeats + 1), "bench parallel", "round", comm.rank) as bar:
        for each, solver in zip(options.size, solvers, strict=True):
            layer = bench.Layer(
                bench.Size(*each),
                options.cell,
                options.update_gate_bias,
                getattr(torch, options.dtype),
                options.seed,
            )
            runs.append(bench.measure_parallel(layer, solver, comm, options.repeats, simulated, bar.update))
    if comm.rank != 0:
        return
    print(
        f"{comm.size} ranks, each {measured_with}; least in brackets\n"
        "milliseconds of a forward and backward pass to all parameters, loss on the last state\n"
        f"{options.cell} cell, update-gate bias {options.update_gate_bias:+g}, {options.dtype}\n"
        + "\n".join(
            describe_solver(solvers[0]) if choice is None else str(choice)
            for choice in dict.fromkeys(choices)
        )
    )
    _note_shared_cores(comm.size, options.threads)
    print()
    print(*table_of_runs(runs), sep="\n")
    if options.json is not None:
        record = {
            **conditions(options),
            "ranks": comm.size,
            "latency": options.latency,
            "bandwidth": options.bandwidth,
            "sizes": [
                {**run_to_dict(each), "solver": solver_to_dict(solver)}
                for each, solver in zip(runs, solvers, strict=True)
            ],
        }
        write_json(options.json, record)
    if options.plot is not None:
        from seqbraid.bench.drawing import draw_parallel

        draw_parallel(runs, f"{comm.size} ranks, each {measured_with}", options.plot)
        print(f"{options.plot} written")


def _require_ranks(wanted: int | None) -> None:
    from seqbraid.comm import launched_ranks
    from seqbraid.errors import OptionsError

    ranks = launched_ranks()
    launch = f"launch it as `mpiexec -n {wanted or 2} seqbraid bench parallel`"
    if ranks == 1:
        raise OptionsError(f"bench parallel measures the ranks of a job, but was started alone; {launch}")
    if wanted not in (None, ranks):
        raise OptionsError(f"`ranks={wanted}`, but the job has {ranks} ranks; {launch}")


def _note_shared_cores(ranks: int, threads: int) -> None:
    import os

    from seqbraid.comm import ranks_on_this_machine

    wanted, cores = ranks_on_this_machine() * threads, os.cpu_count() or 1
    if wanted > cores:
        print(f"note: {ranks} ranks of {threads} threads share {cores} cores; wall times say little of MGRIT")
