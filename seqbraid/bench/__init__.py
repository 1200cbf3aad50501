"""Measurements behind `seqbraid bench`: one process, ranks of a job, simulated ranks."""

from seqbraid.bench.floor import flops_per_step, product_rate
from seqbraid.bench.layer import Layer, Size, forward_backward, gradient_of, relative_error
from seqbraid.bench.parallel import ParallelRun, measure_parallel
from seqbraid.bench.scaling import ScalingPoint, fastest_within, scale
from seqbraid.bench.serial import (
    Comparison,
    Doubling,
    ProfileLine,
    UnequalLengths,
    compare,
    compare_lengths,
    double,
    draw_lengths,
    passes_of_lengths,
    profile,
)
from seqbraid.bench.simulated import SimulatedPass, simulate
from seqbraid.bench.stopwatch import Times, interleave, stopwatch

__all__ = [
    "Comparison",
    "Doubling",
    "Layer",
    "ParallelRun",
    "ProfileLine",
    "ScalingPoint",
    "SimulatedPass",
    "Size",
    "Times",
    "UnequalLengths",
    "compare",
    "compare_lengths",
    "double",
    "draw_lengths",
    "fastest_within",
    "flops_per_step",
    "forward_backward",
    "gradient_of",
    "interleave",
    "measure_parallel",
    "passes_of_lengths",
    "product_rate",
    "profile",
    "relative_error",
    "scale",
    "simulate",
    "stopwatch",
]
