"""The options of `seqbraid train`, and the library's options that they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqbraid.cli.arguments import (
    add_grid_arguments,
    add_sequence_arguments,
    add_solver_arguments,
    add_threads_argument,
    at_least_zero,
    fraction,
    positive,
    share,
    whole,
)
from seqbraid.cli.config import add_config_argument
from seqbraid.errors import OptionsError

if TYPE_CHECKING:
    from seqbraid.train import TrainingOptions

__all__ = ["BESIDE", "add_arguments", "training_options"]

# Options that act only beside another one: its name, the value that it must have, and their own default.
BESIDE = {
    "momentum": ("optimizer", "sgd", 0.9),
    "step_epochs": ("schedule", "step", 10),
    "step_factor": ("schedule", "step", 0.1),
    "reference_batch": ("lr_scaling", "linear", 100),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid train`."""
    parser.add_argument(
        "data", type=Path, nargs="?", metavar="DATA", help="feature store, .npz file or folder of .npy"
    )
    parser.add_argument("--output", type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that lies there")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in RUN, with its options but for those given; where there is none, begin it",
    )
    add_config_argument(parser)
    add_sequence_arguments(parser)
    parser.add_argument(
        "--validation-fraction",
        type=fraction,
        metavar="SHARE",
        help="hold this share of the training part back, of every class, to choose the best epoch by "
        "(default: the test part is watched)",
    )
    _add_model(parser)
    _add_training(parser)
    _add_rate(parser)
    _add_nested(parser)
    _add_safety(parser)
    add_solver_arguments(parser)
    add_grid_arguments(parser)
    add_threads_argument(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--cell",
        choices=("classic", "implicit"),
        default="classic",
        help="torch.nn.GRU's cell, or the implicit one of Moon & Cyr (default: classic)",
    )
    model.add_argument(
        "--gamma", type=positive, default=1.0, metavar="STEP", help="step of the cell's ODE (default: 1)"
    )
    model.add_argument(
        "--hidden-size", type=whole(1, 10**6), default=100, metavar="H", help="hidden units (default: 100)"
    )
    model.add_argument(
        "--num-layers", type=whole(1, 1000), default=1, metavar="L", help="stacked layers (default: 1)"
    )
    model.add_argument(
        "--dropout",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share set to zero in training, between layers and before the head (default: 0)",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=whole(1, 10**6),
        default=10,
        metavar="N",
        help="passes over the training part (default: 10)",
    )
    training.add_argument(
        "--batch-size",
        type=whole(1, 10**9),
        default=100,
        metavar="B",
        help="sequences an update, of all data ranks together (default: 100)",
    )
    training.add_argument(
        "--optimizer",
        choices=("adam", "adamw", "sgd", "lbfgs"),
        default="adam",
        help="lbfgs has a line search, and is for batches of all sequences (default: adam)",
    )
    training.add_argument("--momentum", type=share, metavar="M", help="of sgd (default: 0.9)")
    training.add_argument(
        "--weight-decay",
        type=at_least_zero,
        default=0.0,
        metavar="D",
        help="of adamw apart from the gradient, else added to it (default: 0)",
    )
    training.add_argument(
        "--clip-norm", type=positive, metavar="N", help="largest norm of all gradients together"
    )
    training.add_argument(
        "--label-smoothing",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="share of the target spread over all classes (default: 0)",
    )
    training.add_argument(
        "--class-weights",
        choices=("none", "balanced"),
        default="none",
        help="balanced: rare classes count as much as frequent ones (default: none)",
    )
    training.add_argument(
        "--patience",
        type=whole(1, 10**6),
        metavar="N",
        help="end after so many epochs without a smaller loss on the watched part",
    )
    training.add_argument(
        "--seed",
        type=whole(0, 2**63 - 1),
        default=0,
        metavar="N",
        help="of the first weights, dropout and the order of batches (default: 0)",
    )


def _add_rate(parser: argparse.ArgumentParser) -> None:
    rate = parser.add_argument_group("learning rate")
    rate.add_argument(
        "--lr", type=positive, default=1e-3, metavar="RATE", help="learning rate (default: 1e-3)"
    )
    rate.add_argument(
        "--schedule",
        choices=("constant", "linear", "cosine", "step"),
        default="constant",
        help="its course: constant, to zero in a line or a half cosine, or in steps (default: constant)",
    )
    rate.add_argument(
        "--step-epochs", type=whole(1, 10**6), metavar="N", help="epochs between steps (default: 10)"
    )
    rate.add_argument("--step-factor", type=positive, metavar="F", help="factor at each step (default: 0.1)")
    rate.add_argument(
        "--warmup-epochs",
        type=at_least_zero,
        default=0.0,
        metavar="N",
        help="epochs, or a fraction of one, over which it rises from nearly zero (default: 0)",
    )
    rate.add_argument(
        "--lr-scaling",
        choices=("none", "linear"),
        default="none",
        help="linear: RATE is for --reference-batch sequences, and grows with the batch (default: none)",
    )
    rate.add_argument(
        "--reference-batch",
        type=whole(1, 10**9),
        metavar="B",
        help="sequences that RATE is for, with --lr-scaling linear (default: 100)",
    )


def _add_nested(parser: argparse.ArgumentParser) -> None:
    nested = parser.add_argument_group(
        "nested iteration",
        "The first epochs see sequences of which 2, 4, ... steps at a time are averaged, with a cell step "
        "longer by so much; they cost so much less.",
    )
    nested.add_argument(
        "--nested-levels",
        type=whole(0, 20),
        default=0,
        metavar="L",
        help="coarser levels to begin on: 2 begins four times coarser (default: 0)",
    )
    nested.add_argument(
        "--nested-epochs", type=whole(1, 10**6), metavar="N", help="of the epochs, on each (default: 1)"
    )


def _add_safety(parser: argparse.ArgumentParser) -> None:
    safety = parser.add_argument_group("what a run leaves, and what it survives")
    safety.add_argument(
        "--checkpoint-minutes",
        type=at_least_zero,
        default=10.0,
        metavar="M",
        help="time between checkpoints within an epoch; 0 writes one after every update (default: 10)",
    )
    safety.add_argument(
        "--keep", type=whole(1, 10**6), default=2, metavar="K", help="checkpoints to keep (default: 2)"
    )
    safety.add_argument(
        "--on-nonfinite",
        choices=("stop", "rollback"),
        default="stop",
        help="a loss of nan or infinity ends the run, or sends it back to the last checkpoint, and on with "
        "the serial solver (default: stop)",
    )
    safety.add_argument(
        "--tensorboard", action="store_true", help="write scalars for TensorBoard too, into RUN/tensorboard"
    )


def training_options(options: argparse.Namespace) -> TrainingOptions:
    """Return what the options say of training; raises `OptionsError` for those without an effect."""
    from seqbraid.train import TrainingOptions

    values: dict[str, Any] = {}
    for name, (other, needed, default) in BESIDE.items():
        given = getattr(options, name)
        if given is not None and getattr(options, other) != needed:
            flag, beside = (each.replace("_", "-") for each in (name, other))
            raise OptionsError(f"--{flag} is for --{beside} {needed}; add that, or leave it out")
        values[name] = default if given is None else given
    if options.nested_epochs is not None and not options.nested_levels:
        raise OptionsError("--nested-epochs is for --nested-levels; add that, or leave it out")
    same = (
        "epochs",
        "batch_size",
        "seed",
        "optimizer",
        "weight_decay",
        "schedule",
        "warmup_epochs",
        "lr_scaling",
        "clip_norm",
        "label_smoothing",
        "class_weights",
        "patience",
        "nested_levels",
        "on_nonfinite",
    )
    values |= {name: getattr(options, name) for name in same}
    return TrainingOptions(learning_rate=options.lr, nested_epochs=options.nested_epochs or 1, **values)
