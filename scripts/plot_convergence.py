"""Error of the parallel solution against the serial one, iteration by iteration, for the coarse propagators.

One layer, classic cell, white-noise input, a bias of +4 on the update gate for long memory (at the default
start a GRU forgets so fast that any setting converges). Prints a table and draws docs/convergence.png.

example:
  python scripts/plot_convergence.py --output docs/convergence.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import seqbraid as sb

T, B, INPUTS, H, COARSENING, BIAS = 1024, 8, 9, 64, 16, 4.0
PROPAGATORS = [
    ("implicit, last input (Moon & Cyr)", {"coarse": "implicit", "coarse_input": "point"}),
    ("implicit, mean input", {"coarse": "implicit", "coarse_input": "mean"}),
    ("frozen gates, last input", {"coarse": "frozen", "coarse_input": "point"}),
    ("frozen gates, mean input (default)", {"coarse": "frozen", "coarse_input": "mean"}),
]


def solve(gru: sb.GRU, solver: sb.Serial | sb.MGRIT, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states and the gradient of all weights for a loss on the last state."""
    gru.solver = solver
    gru.zero_grad()
    output, h_n = gru(x)
    h_n.square().sum().backward()
    gradients = [parameter.grad.reshape(-1) for parameter in gru.parameters() if parameter.grad is not None]
    return output.detach(), torch.cat(gradients)


def main() -> None:
    """Solve, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=5, help="largest number of iterations (default: 5)")
    parser.add_argument("--output", type=Path, help="picture to write; needs matplotlib")
    options = parser.parse_args()
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, dtype=torch.float64)
    with torch.no_grad():
        gru.get_parameter("bias_hh_l0")[H : 2 * H] += BIAS
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    states, gradients = solve(gru, sb.Serial(), x)

    errors: dict[str, list[tuple[float, float]]] = {}
    counts = range(options.iterations + 1)
    for name, choice in PROPAGATORS:
        errors[name] = []
        for iterations in counts:
            solver = sb.MGRIT(
                coarsening=COARSENING,
                forward_iterations=iterations,
                backward_iterations=iterations,
                on_divergence="warn",
                **choice,  # type: ignore[arg-type]
            )
            found = solve(gru, solver, x)
            pairs = zip(found, (states, gradients), strict=True)
            state_error, gradient_error = (float((one - other).norm() / other.norm()) for one, other in pairs)
            errors[name].append((state_error, gradient_error))

    print(f"T={T} B={B} I={INPUTS} H={H} c={COARSENING}, FCF, update-gate bias +{BIAS:g}, float64")
    print(f"{'error of states / of weight gradients':<36}" + "".join(f"{k:>19}" for k in counts))
    for name, row in errors.items():
        print(f"{name:<36}" + "".join(f"{one:>10.1e} {other:.1e} " for one, other in row))
    if options.output:
        draw(errors, options.output)


def draw(errors: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draw both errors over the iterations."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, constrained_layout=True)
    for index, (axis, title) in enumerate(zip(axes, ("states", "weight gradients"), strict=True)):
        for marker, (name, row) in zip("vs^o", errors.items(), strict=True):
            axis.semilogy(range(len(row)), [pair[index] for pair in row], marker=marker, label=name)
        axis.set(title=title, xlabel="FCF iterations, forward and backward")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("relative error against serial")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"T={T}, interval of {COARSENING} steps, H={H}, long memory", fontsize=10)
    temporary = path.with_suffix(".tmp.png")
    figure.savefig(temporary, dpi=130)
    temporary.replace(path)


if __name__ == "__main__":
    main()
