"""Measure how fast this machine is at it: one process, the ranks of a job, simulated ranks, videos.

  serial     microseconds a step of torch.nn.GRU, of our serial path, of MGRIT on one rank
  parallel   MGRIT under mpiexec against our serial path on one rank
  scaling    the same on up to hundreds of simulated ranks, in virtual time
  features   frames a second of `seqbraid preprocess`

Contenders are measured in turn, A B C A B C ..., so that whatever else the machine does hits all alike;
tables show medians. A pass is a forward and a backward one, to all parameters, with a loss on the last
state.

example:
  seqbraid bench serial --size 8192,1,9,64 --json serial.json
  mpiexec -n 2 seqbraid bench parallel --simulate
  seqbraid bench scaling --coarsening 16 32 64 --plot scaling.png
  seqbraid bench features videos/ --backbone resnet34

Run `seqbraid bench BENCHMARK --help` for the options of one.
"""

from __future__ import annotations

import argparse
from types import ModuleType

from seqbraid.cli.arguments import add_subcommand
from seqbraid.cli.bench import features, parallel, scaling, serial
from seqbraid.cli.bench.output import check_files

__all__ = ["HELP", "add_arguments", "run"]

HELP = "measure the speed of layers, ranks and feature extraction"

_BENCHMARKS: dict[str, ModuleType] = {
    "serial": serial,
    "parallel": parallel,
    "scaling": scaling,
    "features": features,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `seqbraid bench`."""
    benchmarks = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, module in _BENCHMARKS.items():
        add_subcommand(benchmarks, name, module)


def run(options: argparse.Namespace) -> None:
    """Measure, and print a table; `--json` and `--plot` are checked before."""
    check_files(options)
    _BENCHMARKS[options.benchmark].run(options)
