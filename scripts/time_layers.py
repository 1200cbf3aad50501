"""Microseconds a step, forward plus backward to all parameters, of one layer on one thread.

Medians over several runs in one process; last-state loss, float32, classic cell, white-noise input. The
error is that of MGRIT's weight gradients against the serial solver's.

example:
  OMP_NUM_THREADS=1 python scripts/time_layers.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import seqbraid as sb

SIZES = [(8192, 1, 9, 64), (1024, 8, 64, 64), (8192, 8, 64, 64), (128, 100, 9, 100)]


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def gradient(module: nn.Module, x: Tensor) -> Tensor:
    """Return the gradient of all weights for a loss on the last state."""
    module.zero_grad()
    _, h_n = module(x)
    h_n.square().sum().backward()
    return torch.cat([each.grad.reshape(-1) for each in module.parameters() if each.grad is not None])


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs that count (default: 5)")
    parser.add_argument("--coarsening", type=int, default=16, help="of MGRIT (default: 16)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'T, B, I, H':>18} {'torch.nn.GRU':>13} {'Serial()':>9} {'MGRIT()':>9} {'error':>8}")
    for T, B, inputs, hidden in SIZES:
        torch.manual_seed(0)
        x = torch.randn(T, B, inputs)
        torchs = nn.GRU(inputs, hidden)
        modules: list[nn.Module] = [torchs]
        for solver in (sb.Serial(), sb.MGRIT(coarsening=options.coarsening)):
            module = sb.GRU(inputs, hidden, solver=solver)
            module.load_state_dict(torchs.state_dict())
            modules.append(module)
        torch_us, serial_us, mgrit_us = (
            1e6 * median_seconds(partial(gradient, module, x), options.repeats) / T for module in modules
        )
        truth, found = gradient(modules[1], x), gradient(modules[2], x)
        error = float((found - truth).norm() / truth.norm())
        sizes = f"{T}, {B}, {inputs}, {hidden}"
        print(f"{sizes:>18} {torch_us:>13.1f} {serial_us:>9.1f} {mgrit_us:>9.1f} {error:>8.0e}")


if __name__ == "__main__":
    main()
