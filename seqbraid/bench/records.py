"""What was measured, as plain values for a JSON file."""

from __future__ import annotations

from typing import Any

from seqbraid.bench.floor import flops_per_step
from seqbraid.bench.parallel import ParallelRun
from seqbraid.bench.scaling import ScalingPoint
from seqbraid.bench.serial import Comparison, Doubling, UnequalLengths
from seqbraid.bench.stopwatch import Times
from seqbraid.bench.tables import LABELS

__all__ = [
    "comparison_to_dict",
    "doubling_to_dict",
    "lengths_to_dict",
    "point_to_dict",
    "run_to_dict",
    "times_to_dict",
]


def times_to_dict(times: Times | None) -> dict[str, Any] | None:
    """Return times as plain values."""
    if times is None:
        return None
    return {"median": times.median, "least": times.least, "seconds": list(times.seconds)}


def comparison_to_dict(row: Comparison, rate: float) -> dict[str, Any]:
    """Return a comparison, with the floor that `rate` sets."""
    return {
        **vars(row.size),
        "times": {name: times_to_dict(row.times.get(name)) for name in LABELS},
        "microseconds_per_step": {
            name: row.microseconds(name) if name in row.times else None for name in LABELS
        },
        "torch_over": {name: row.ratio(name) for name in ("serial", "mgrit")},
        "flops_per_step": flops_per_step(row.size),
        "floor_microseconds_per_step": row.floor_microseconds(rate),
        "mgrit_gradient_error": row.gradient_error,
    }


def lengths_to_dict(row: UnequalLengths) -> dict[str, Any]:
    """Return what unequal lengths cost."""
    names = ("torch", "serial", "mgrit")
    return {
        **vars(row.size),
        "valid_share": row.valid_fraction,
        "times": {
            name: {kind: times_to_dict(row.times[name, kind]) for kind in ("equal", "unequal")}
            for name in names
        },
        "unequal_over_equal": {name: row.ratio(name) for name in names},
    }


def doubling_to_dict(row: Doubling) -> dict[str, Any]:
    """Return passes over one length."""
    times = {name: times_to_dict(each) for name, each in row.times.items()}
    return {**vars(row.size), "times": times, "factors": dict(row.factors)}


def run_to_dict(each: ParallelRun) -> dict[str, Any]:
    """Return what a job of several ranks took."""
    return {
        **vars(each.size),
        "serial": times_to_dict(each.serial),
        "mgrit": times_to_dict(each.slowest),
        "mgrit_of_each_rank": [times_to_dict(times) for times in each.mgrit],
        "speedup": each.speedup,
        "communication_share": list(each.communication_fraction),
        "forward_residual": each.forward_residual,
        "backward_residual": each.backward_residual,
        "gradient_error": each.gradient_error,
        "simulated": times_to_dict(each.simulated),
        "simulated_over_measured": each.simulated_over_measured,
    }


def point_to_dict(point: ScalingPoint, fastest: bool) -> dict[str, Any]:
    """Return one solver on so many simulated ranks; `fastest`: the fastest within the bound."""
    return {
        **vars(point),
        "serial": times_to_dict(point.serial),
        "times": times_to_dict(point.times),
        "speedup": point.speedup,
        "diverged": point.times is None,
        "fastest_within_bound": fastest,
    }
