"""Show how far MGRIT is from the serial solution, to choose a setting by.

For a layer of the given size with random weights and white-noise input, prints the relative errors of states
and of every gradient after 0, 1, 2, ... iterations, for several coarse propagators. A GRU at its default
start forgets within a few steps, so that any setting converges at once: --gate-bias lengthens its memory, as
training does. Under mpiexec the ranks are real; without, --ranks says how many are simulated.

A propagator is KIND/INPUT/STEP: frozen, implicit or classic; the mean of an interval's inputs or its last
point; a step scaled to the whole interval or of one unit. INPUT and STEP may be left out (mean, scaled).

example:
  seqbraid verify --steps 1024 --coarsening 16 --plot convergence.png
  seqbraid verify --coarse frozen/mean implicit/point classic/mean/unit --cell implicit --ranks 8
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from seqbraid.cli.arguments import add_options, whole
from seqbraid.options import MGRIT, ModelOptions, ThreadOptions, TrainingOptions, options_of
from seqbraid.options.declaring import Group
from seqbraid.options.kinds import Whole
from seqbraid.options.solver import CoarseInput, CoarseKind, CoarseStep

__all__ = ["HELP", "add_arguments", "run"]

HELP = "show errors of states and gradients against the serial solution"

_DEFAULT_COARSE = ["implicit/point", "implicit/mean", "frozen/point", "frozen/mean"]
_CHOICES = tuple(get_args(each) for each in (CoarseKind, CoarseInput, CoarseStep))


def _propagator(text: str) -> tuple[str, str, str]:
    words = text.split("/")
    words += [choices[0] for choices in _CHOICES[len(words) :]]
    if len(words) != 3 or any(word not in choices for word, choices in zip(words, _CHOICES, strict=True)):
        kinds, *others = ("|".join(choices) for choices in _CHOICES)
        expected = f"({kinds})" + "".join(f"[/({other})]" for other in others)
        raise argparse.ArgumentTypeError(f"{text!r} is not {expected}")
    return words[0], words[1], words[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid verify`."""
    layer = parser.add_argument_group("layer")
    size = whole(1, 10**9)
    layer.add_argument("--steps", type=size, default=1024, metavar="T", help="steps (default: 1024)")
    layer.add_argument("--input-size", type=size, default=9, metavar="I", help="inputs (default: 9)")
    [batch, seed] = options_of(TrainingOptions, "batch_size", "seed")
    [hidden, *cell] = options_of(ModelOptions, "hidden_size", "cell", "gamma")
    shared = [
        batch.but(default=8, help="sequences"),
        hidden.but(default=64),
        *cell,
        seed.but(help="of weights and input"),
    ]
    add_options(parser, [each.but(group=Group("layer")) for each in shared])
    layer.add_argument(
        "--gate-bias",
        type=float,
        default=4.0,
        metavar="X",
        help="added to the update gate's bias; 0 is torch's own start (default: 4)",
    )
    layer.add_argument(
        "--loss",
        choices=("last", "every"),
        default="last",
        help="of the last state, or of every step's (default: last)",
    )
    layer.add_argument(
        "--dtype", choices=("float64", "float32"), default="float64", help="(default: float64)"
    )
    [coarsening, levels, relaxation] = options_of(MGRIT, "coarsening", "levels", "relaxation")
    several = levels.but(kind=Whole(2, 60), help="grid levels")
    solver = parser.add_argument_group("solver")
    add_options(
        parser,
        [each.but(group=Group("solver"), beside=None) for each in (coarsening, several, relaxation)],
    )
    solver.add_argument(
        "--coarse",
        type=_propagator,
        nargs="+",
        default=[_propagator(text) for text in _DEFAULT_COARSE],
        metavar="PROPAGATOR",
        help=f"coarse propagators to compare (default: {' '.join(_DEFAULT_COARSE)})",
    )
    solver.add_argument(
        "--iterations", type=whole(0, 1000), default=3, metavar="K", help="largest number (default: 3)"
    )
    parser.add_argument(
        "--ranks", type=whole(1, 4096), metavar="P", help="logical ranks to simulate (default: 1)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the errors; needs matplotlib")
    add_options(parser, options_of(ThreadOptions))


def run(options: argparse.Namespace) -> None:
    """Print the table, and draw it where asked."""
    import torch

    from seqbraid.comm import SimulatedWorld, launched_ranks, world
    from seqbraid.errors import OptionsError
    from seqbraid.plots.figure import require_plot
    from seqbraid.threads import set_threads
    from seqbraid.verify import Case, lines_of_errors, verify

    if options.ranks is not None and launched_ranks() > 1:
        raise OptionsError(
            f"`ranks={options.ranks}` simulates ranks, but {launched_ranks()} real ones are running"
        )
    if options.plot is not None:
        require_plot(options.plot)
    set_threads(options.threads)
    communicator = world()

    def on_ranks(function: Any) -> Any:
        if communicator.size > 1:
            return function(communicator)
        return SimulatedWorld(options.ranks or 1).run(function)[0]

    case = Case(
        options.steps,
        options.batch_size,
        options.input_size,
        options.hidden_size,
        options.cell,
        options.gamma,
        options.gate_bias,
        options.loss,
        getattr(torch, options.dtype),
        options.seed,
    )
    solvers = [
        MGRIT(
            coarsening=options.coarsening,
            levels=options.levels,
            relaxation=options.relaxation,
            coarse=kind,
            coarse_input=coarse_input,
            coarse_step=step,
        )
        for kind, coarse_input, step in options.coarse
    ]
    table = verify(case, solvers, range(options.iterations + 1), on_ranks)
    if communicator.rank != 0:
        return
    names = ["/".join(words) for words in options.coarse]
    ranks = f"{communicator.size}" if communicator.size > 1 else f"{options.ranks or 1} simulated"
    title = (
        f"T={case.T} B={case.B} I={case.I} H={case.H}, {case.cell} cell, gamma {case.gamma:g}, "
        f"update-gate bias {case.gate_bias:+g}, loss on {case.loss}, {options.dtype}; "
        f"intervals of {options.coarsening}, {options.levels} levels, {options.relaxation}; ranks: {ranks}"
    )
    print(title)
    print(
        "relative error against the serial solution: states, h_n, then gradients; residuals of both solves\n"
    )
    print("\n".join(lines_of_errors(names, table)))
    print(
        "\nKIND/INPUT/STEP is MGRIT(coarse=KIND, coarse_input=INPUT, coarse_step=STEP) in Python,\n"
        "and --coarse KIND --coarse-input INPUT --coarse-step STEP for seqbraid train"
    )
    if options.plot is not None:
        from seqbraid.plots.convergence import draw_convergence

        draw_convergence(names, table, title, options.plot)
        print(f"\n{options.plot} written")
