"""One process: `torch.nn.GRU`, our serial path, MGRIT on one rank, a compiled scan of JAX."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from seqbraid.bench.floor import flops_per_step
from seqbraid.bench.jax_scan import scan_gradients
from seqbraid.bench.layer import Layer, Size, forward_backward, gradient_of, relative_error
from seqbraid.bench.stopwatch import Times, interleave, stopwatch
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.rnn import GRU

__all__ = [
    "Comparison",
    "Doubling",
    "ProfileLine",
    "UnequalLengths",
    "compare",
    "compare_lengths",
    "double",
    "draw_lengths",
    "passes_of_lengths",
    "profile",
]


@dataclass(frozen=True)
class Comparison:
    """Whole passes, forward and backward, of "torch", "serial", "mgrit" and, where installed, "jax".

    `gradient_error` is that of MGRIT's weight gradients against our serial path's.
    """

    size: Size
    times: Mapping[str, Times]
    gradient_error: float

    def microseconds(self, contender: str) -> float:
        """Return a contender's median microseconds a step."""
        return 1e6 * self.times[contender].median / self.size.T

    def ratio(self, contender: str) -> float:
        """Return how many times longer torch.nn.GRU takes than the contender."""
        return self.times["torch"].median / self.times[contender].median

    def floor_microseconds(self, operations_a_second: float) -> float:
        """Return the microseconds a step that the matrix products alone take at this rate."""
        return 1e6 * flops_per_step(self.size) / operations_a_second


def compare(
    layer: Layer, solver: MGRIT, repeats: int, threads: int = 1, tick: Callable[[], object] = lambda: None
) -> Comparison:
    """Measure all contenders on one layer; torch.nn.GRU has the classic cell always."""
    modules: dict[str, nn.Module] = {
        "torch": layer.torch_module(),
        "serial": layer.module(Serial()),
        "mgrit": layer.module(solver),
    }
    contenders = {
        name: stopwatch(partial(forward_backward, module, layer.series)) for name, module in modules.items()
    }
    scan = scan_gradients(layer, threads)
    if scan is not None:
        contenders["jax"] = stopwatch(scan)
    times = interleave(contenders, repeats, tick)
    error = relative_error(gradient_of(modules["mgrit"]), gradient_of(modules["serial"]))
    return Comparison(layer.size, times, error)


@dataclass(frozen=True)
class UnequalLengths:
    """Passes over sequences of equal and of unequal length: times[contender, "equal" or "unequal"].

    `valid_fraction` is the fraction of the steps that lie within the unequal sequences.
    """

    size: Size
    valid_fraction: float
    times: Mapping[tuple[str, str], Times]

    def ratio(self, contender: str) -> float:
        """Return the contender's time with unequal lengths over that with equal ones."""
        return self.times[contender, "unequal"].median / self.times[contender, "equal"].median


def draw_lengths(size: Size, seed: int = 0) -> list[int]:
    """Return a length for each sequence, uniform from T/4 to T, one of them T."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(max(1, size.T // 4), size.T + 1, (size.B,), generator=generator).tolist()
    drawn[int(torch.randint(size.B, (), generator=generator))] = size.T
    return drawn


def compare_lengths(
    layer: Layer, solver: MGRIT, repeats: int, tick: Callable[[], object] = lambda: None
) -> UnequalLengths:
    """Measure what unequal lengths cost: ours given `lengths`, torch.nn.GRU given packed sequences."""
    lengths = draw_lengths(layer.size, layer.seed)
    passes = passes_of_lengths(layer, solver, lengths)
    times = interleave({name: stopwatch(run) for name, (_, run) in passes.items()}, repeats, tick)
    return UnequalLengths(layer.size, sum(lengths) / (layer.size.T * layer.size.B), times)


def passes_of_lengths(
    layer: Layer, solver: MGRIT, lengths: list[int]
) -> dict[tuple[str, str], tuple[nn.Module, Callable[[], object]]]:
    """Return for each contender with "equal" and "unequal" lengths its module and what runs a pass of it."""
    x, torchs = layer.series, layer.torch_module()

    def packed() -> None:
        # Packing is a part of the work: every batch needs it.
        forward_backward(torchs, pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False))

    passes: dict[tuple[str, str], tuple[nn.Module, Callable[[], object]]] = {
        ("torch", "equal"): (torchs, partial(forward_backward, torchs, x)),
        ("torch", "unequal"): (torchs, packed),
    }
    for name, ours in (("serial", layer.module(Serial())), ("mgrit", layer.module(solver))):
        passes[name, "equal"] = ours, partial(forward_backward, ours, x)
        passes[name, "unequal"] = ours, partial(forward_backward, ours, x, None, lengths)
    return passes


@dataclass(frozen=True)
class Doubling:
    """Passes over T steps, and by which factor each costs more than over half as many (None at the first)."""

    size: Size
    times: Mapping[str, Times]
    factors: Mapping[str, float | None]


def double(
    layer: Layer, solver: MGRIT, steps: Iterable[int], repeats: int, tick: Callable[[], object] = lambda: None
) -> list[Doubling]:
    """Measure "serial" and "mgrit" at each T of `steps`, of which each should be twice the one before."""
    rows: list[Doubling] = []
    for T in steps:
        longer = replace(layer, size=replace(layer.size, T=T))
        contenders = {
            name: stopwatch(partial(forward_backward, longer.module(chosen), longer.series))
            for name, chosen in (("serial", Serial()), ("mgrit", solver))
        }
        times = interleave(contenders, repeats, tick)
        before = rows[-1].times if rows else None
        factors = {
            name: None if before is None else each.median / before[name].median
            for name, each in times.items()
        }
        rows.append(Doubling(longer.size, times, factors))
    return rows


@dataclass(frozen=True)
class ProfileLine:
    """A function: how often it was called, its seconds without and with what it calls, and where it is."""

    calls: int
    own_seconds: float
    seconds: float
    where: str


def profile(module: GRU, layer: Layer, lines: int = 15) -> list[ProfileLine]:
    """Return the functions in which one pass spends most time of its own, after a pass that warms up.

    The profiler charges every call, so many small calls look dearer than they are.
    """
    forward_backward(module, layer.series)
    profiler = cProfile.Profile()
    profiler.runcall(forward_backward, module, layer.series)
    # typeshed leaves out `stats`: {(file, line, function): (calls, all calls, own, cumulative, callers)}.
    entries: dict[tuple[str, int, str], tuple[Any, ...]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    found = [
        ProfileLine(calls, own, whole, _where(*function))
        for function, (_, calls, own, whole, _) in entries.items()
    ]
    return sorted(found, key=lambda line: -line.own_seconds)[:lines]


def _where(file: str, line: int, function: str) -> str:
    # Functions compiled into an extension have no file.
    return function if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {function}"
