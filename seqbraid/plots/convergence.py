"""The picture of errors over iterations, a curve for each coarse propagator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqbraid.plots.figure import pyplot, save_figure
from seqbraid.verify import Errors

__all__ = ["draw_convergence"]


def draw_convergence(names: Sequence[str], table: Sequence[Sequence[Errors]], title: str, path: Path) -> None:
    """Draw the errors of the states, and of the worst weight gradient."""
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.8), sharey=True, constrained_layout=True)
    markers = "vs^oDPX*"
    for number, (name, row) in enumerate(zip(names, table, strict=True)):
        counts = [errors.iterations for errors in row]
        weights = [
            max(
                error for quantity, error in errors.of.items() if quantity not in ("states", "h_n", "x", "h0")
            )
            for errors in row
        ]
        marker = markers[number % len(markers)]
        axes[0].semilogy(counts, [errors.of["states"] for errors in row], marker=marker, label=name)
        axes[1].semilogy(counts, weights, marker=marker, label=name)
    for axis, label in zip(axes, ("states", "weight gradients, the worst"), strict=True):
        axis.set(title=label, xlabel="iterations, forward and backward")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("relative error against serial")
    axes[0].legend(fontsize=8)
    figure.suptitle(title.rpartition(";")[0], fontsize=8)
    save_figure(figure, path)
