"""What every picture needs: a check before the work, and the file written in one step."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from seqbraid.errors import OptionsError
from seqbraid.files import require_place

__all__ = ["finish", "legend_above", "pyplot", "require_plot", "save_figure"]


def require_plot(path: Path, parameter: str = "plot") -> None:
    """Raise `OptionsError` where a picture cannot be written: no matplotlib, no folder, no such format.

    `parameter` is what the path was given as.
    """
    if find_spec("matplotlib") is None:
        raise OptionsError(f"`{parameter}` needs matplotlib; pip install matplotlib brings it")
    require_place(path, parameter)
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.filetypes
    if path.suffix and path.suffix[1:].lower() not in formats:
        raise OptionsError(
            f"`{parameter}={path}`: expected a name that ends in .{', .'.join(sorted(formats))}"
        )


def pyplot() -> Any:
    """Return matplotlib's `pyplot`, which then needs no display."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def finish(axis: Any, lines: str = "both") -> None:
    """Add faint lines behind what is drawn; `lines` of which axis."""
    axis.grid(alpha=0.3, axis=lines)
    axis.set_axisbelow(True)


def legend_above(axis: Any, title: str, columns: int = 4) -> None:
    """Put the title above the axis, and between the two the legend, where it covers no curve."""
    handles, labels = axis.get_legend_handles_labels()
    rows = -(-len(labels) // columns)
    axis.set_title(title, fontsize=9, pad=5 + 11 * rows)
    if labels:
        axis.legend(
            handles,
            labels,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=-(-len(labels) // rows),
            fontsize=7,
            frameon=False,
            columnspacing=1.2,
            handlelength=1.5,
            labelspacing=0.2,
            borderpad=0.2,
            borderaxespad=0.1,
        )


def save_figure(figure: Any, path: Path) -> None:
    """Write the figure and close it; the name's ending tells the format, PNG where there is none."""
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix or '.png'}")
    figure.savefig(temporary, dpi=130)
    pyplot().close(figure)
    temporary.replace(path)
