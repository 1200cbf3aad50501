"""The tables of `seqbraid bench`, each as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqbraid.bench.parallel import ParallelRun
from seqbraid.bench.scaling import ScalingPoint
from seqbraid.bench.serial import Comparison, Doubling, ProfileLine, UnequalLengths
from seqbraid.bench.stopwatch import Times
from seqbraid.text import lines_of_table

__all__ = [
    "LABELS",
    "short",
    "table_of_comparisons",
    "table_of_doubling",
    "table_of_features",
    "table_of_lengths",
    "table_of_points",
    "table_of_profiles",
    "table_of_runs",
]

# What the contenders are called.
LABELS = {"torch": "torch.nn.GRU", "serial": "Serial()", "mgrit": "MGRIT()", "jax": "JAX scan"}


def table_of_comparisons(rows: Sequence[Comparison], rate: float) -> list[str]:
    """Return microseconds a step of every contender, and the floor that `rate` sets."""
    header = ["T,B,I,H", *LABELS.values(), "floor", "torch/Serial", "torch/MGRIT", "MGRIT's gradient error"]
    table = []
    for row in rows:
        cells = [
            _in_brackets(row.times[name], 1e6 / row.size.T) if name in row.times else "not installed"
            for name in LABELS
        ]
        ratios = [short(row.ratio(name)) for name in ("serial", "mgrit")]
        floor = short(row.floor_microseconds(rate))
        table.append([str(row.size), *cells, floor, *ratios, f"{row.gradient_error:.0e}"])
    return _table(header, table)


def table_of_lengths(rows: Sequence[UnequalLengths]) -> list[str]:
    """Return what unequal lengths cost each contender; nothing without rows."""
    if not rows:
        return []
    title = "sequences of unequal length: microseconds a step, equal -> unequal, and their ratio"
    header = ["T,B,I,H", "valid steps"]
    names = ("torch", "serial", "mgrit")
    for name in names:
        header += [LABELS[name], "ratio"]
    table = []
    for row in rows:
        cells = [str(row.size), f"{row.valid_fraction:.0%}"]
        for name in names:
            equal, unequal = (
                short(1e6 * row.times[name, kind].median / row.size.T) for kind in ("equal", "unequal")
            )
            cells += [f"{equal} -> {unequal}", short(row.ratio(name))]
        table.append(cells)
    return [title, *_table(header, table)]


def table_of_doubling(rows: Sequence[Doubling]) -> list[str]:
    """Return how the time grows with the length; nothing without rows."""
    if not rows:
        return []
    title = "longer and longer sequences: milliseconds a pass, and the factor to the line above"
    header = ["T,B,I,H", "Serial()", "factor", "MGRIT()", "factor"]
    table = []
    for row in rows:
        cells = [str(row.size)]
        for name in ("serial", "mgrit"):
            cells += [_in_brackets(row.times[name], 1e3), short(row.factors[name])]
        table.append(cells)
    return [title, *_table(header, table)]


def table_of_profiles(profiles: Mapping[str, Sequence[ProfileLine]]) -> list[str]:
    """Return a table for each pass, under a line with its name."""
    tables = []
    for name, lines in profiles.items():
        tables.append(f"where a pass of {name} spends its time, in milliseconds")
        table = [
            [f"{1e3 * line.own_seconds:.2f}", f"{1e3 * line.seconds:.2f}", str(line.calls), line.where]
            for line in lines
        ]
        tables += _table(["itself", "with its calls", "calls", "function"], table, text_last=True)
    return tables


def table_of_runs(runs: Sequence[ParallelRun]) -> list[str]:
    """Return what a job of several ranks took, size by size."""
    header = ["T,B,I,H", "Serial()", "MGRIT()", "speedup", "communication", "residuals", "gradient error"]
    simulated = any(each.simulated is not None for each in runs)
    if simulated:
        header += ["simulated", "simulated/measured"]
    table = []
    for each in runs:
        fraction = sum(each.communication_fraction) / len(each.communication_fraction)
        cells = [
            str(each.size),
            _in_brackets(each.serial, 1e3),
            _in_brackets(each.slowest, 1e3),
            short(each.speedup),
            f"{fraction:.0%}",
            f"{each.forward_residual:.0e}, {each.backward_residual:.0e}",
            f"{each.gradient_error:.0e}",
        ]
        if simulated:
            cells += [_in_brackets(each.simulated, 1e3), short(each.simulated_over_measured)]
        table.append(cells)
    return _table(header, table)


def table_of_points(
    points: Sequence[ScalingPoint], fastest: Sequence[ScalingPoint], show_all: bool, error_bound: float
) -> list[str]:
    """Return a line for each number of simulated ranks: the fastest within the bound, or all."""
    header = [
        "ranks",
        "coarsening",
        "Serial()",
        "MGRIT(), simulated",
        "predicted",
        "speedup",
        "comp:comm",
        "states error",
        "gradient error",
        "",
    ]
    shown = list(points) if show_all else list(fastest)
    if not show_all:
        # A number of ranks for which nothing is good enough still has its line: the least error there is.
        for ranks in {point.ranks for point in points} - {point.ranks for point in fastest}:
            shown.append(min((point for point in points if point.ranks == ranks), key=_error))
        shown.sort(key=lambda point: point.ranks)
    table = []
    for point in shown:
        remarks = ["auto"] if point.chosen else []
        if point.times is None:
            remarks.append("diverged")
        elif not point.within(error_bound):
            remarks.append(f"error above {error_bound:g}")
        if show_all and point in fastest:
            remarks.append("fastest")
        if point.idle_ranks:
            remarks.append(f"{point.idle_ranks} of the ranks idle")
        table.append(
            [
                str(point.ranks),
                "-" if point.levels == 1 else str(point.coarsening),
                _in_brackets(point.serial, 1e3),
                _in_brackets(point.times, 1e3),
                "-" if point.predicted_seconds is None else short(1e3 * point.predicted_seconds),
                short(point.speedup),
                short(point.compute_to_communication),
                "-" if point.states_error is None else f"{point.states_error:.1e}",
                "-" if point.gradient_error is None else f"{point.gradient_error:.1e}",
                ", ".join(remarks),
            ]
        )
    return _table(header, table, text_last=True)


def _error(point: ScalingPoint) -> float:
    return float("inf") if point.gradient_error is None else point.gradient_error


def table_of_features(
    times: Mapping[str, Times], counts: Mapping[str, int], operations: float, peak: float
) -> list[str]:
    """Return frames a second of the contenders, each of which took its number of frames in `counts`.

    `operations` are those of a frame, `peak` those of a second in one large product.
    """
    rates = {name: counts[name] / each.median for name, each in times.items()}
    header = ["", "frames/s", "highest", "ms a frame", "of plain", "of network", "of peak"]
    rows = [
        [
            name,
            short(rates[name]),
            short(counts[name] / each.least),
            short(1e3 / rates[name]),
            f"{rates[name] / rates['plain loop']:.2f}",
            f"{rates[name] / rates['network']:.2f}",
            "" if name == "decode" else f"{rates[name] * operations / peak:.0%}",
        ]
        for name, each in times.items()
    ]
    return _table(header, rows)


def short(value: float | None) -> str:
    """Return a positive number to three digits, without an exponent; - for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _in_brackets(times: Times | None, scale: float) -> str:
    """Return the median, and the least in brackets, in a unit of which a second has `scale`."""
    return "-" if times is None else f"{short(scale * times.median)} ({short(scale * times.least)})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], text_last: bool = False) -> list[str]:
    """Return columns aligned on the right, with `text_last` but the last, and an empty line."""
    left = (len(header) - 1,) if text_last else ()
    return [*lines_of_table([header, *rows], left), ""]
