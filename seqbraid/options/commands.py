"""Which options commands take, where several take the same or a command takes them in its own way."""

from __future__ import annotations

from collections.abc import Sequence

from seqbraid.options.declaring import Group, Option, options_of
from seqbraid.options.kinds import OrWord
from seqbraid.options.model import ModelOptions
from seqbraid.options.ranks import RankOptions, ThreadOptions
from seqbraid.options.runs import RunOptions, SafetyOptions
from seqbraid.options.sequences import SequenceOptions
from seqbraid.options.solver import MGRIT, TRAINED_BY, SolverOptions
from seqbraid.options.training import TrainingOptions

__all__ = [
    "OF_A_FIT",
    "OF_A_TRAINING",
    "mgrit_options",
    "sequence_options_of_a_run",
    "solver_options_of_a_run",
]


def _or_auto(coarsening: Option) -> Option:
    text = "or auto: it, levels, iterations and initial guess by a model of the costs"
    return coarsening.but(help=f"{coarsening.help}, {text}", command=OrWord(coarsening.kind, "auto"))


def _solver_options() -> list[Option]:
    [coarsening], others = options_of(MGRIT, "coarsening"), options_of(MGRIT)[1:]
    coarsening = coarsening.but(default=TRAINED_BY.coarsening)
    solver, memory = options_of(SolverOptions)
    return [solver, _or_auto(coarsening), memory, *others]


# All options of `seqbraid train`, in the order of its --help.
OF_A_TRAINING: tuple[Option, ...] = (
    *options_of(RunOptions),
    *options_of(ThreadOptions),
    *options_of(SequenceOptions),
    *options_of(ModelOptions),
    *options_of(TrainingOptions),
    *options_of(SafetyOptions),
    *_solver_options(),
    *options_of(RankOptions),
)

# Those that a training is asked for by name: not the places of its run, nor what its data say.
OF_A_FIT: tuple[Option, ...] = tuple(
    each for each in OF_A_TRAINING if each.change != "call" and each.flag is not None and each.name != "data"
)


def sequence_options_of_a_run() -> list[Option]:
    """Return --split and --pad with the defaults of a run that was trained."""
    split, pad = options_of(SequenceOptions, "split", "pad")
    trained_on = "the one that the run was trained on; the test part of another may hold clips that it was"
    return [
        split.but(unset=f"{trained_on} trained on"),
        pad.but(default=None, unset="as the run was trained"),
    ]


def solver_options_of_a_run() -> list[Option]:
    """Return --solver and the options of MGRIT with the defaults of a run that was trained."""
    options = [
        each.but(default=None, unset=f"the run's, else {each.shown}")
        for each in options_of(MGRIT)
        if each.name != "coarsening"
    ]
    [solver], [coarsening] = options_of(SolverOptions, "solver"), options_of(MGRIT, "coarsening")
    return [
        solver.but(default=None, unset="as the run was trained"),
        coarsening.but(default=None, unset=f"the run's, else {TRAINED_BY.coarsening}"),
        *options,
    ]


def mgrit_options(coarsenings: Sequence[int], auto: bool = False) -> list[Option]:
    """Return the options of MGRIT for a command that always uses it.

    `coarsenings` are the defaults; of more than one, --coarsening takes several. With `auto` it takes that
    word too.
    """
    coarsening, *others = options_of(MGRIT)
    several = len(coarsenings) > 1
    if auto:
        coarsening = _or_auto(coarsening)
    coarsening = coarsening.but(
        default=list(coarsenings) if several else coarsenings[0],
        help=f"{coarsening.help}{'; one or more to try' if several else ''}",
        several=several,
        beside=None,
    )
    memory = options_of(SolverOptions, "memory") if auto else []
    return [each.but(group=Group("solver")) for each in (coarsening, *memory, *others)]
