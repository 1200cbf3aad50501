"""How a classifier is trained; nothing of the model, the data or the ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from seqbraid.errors import OptionsError
from seqbraid.options.declaring import Beside, Group, check, documented, option
from seqbraid.options.kinds import AT_LEAST_ZERO, FRACTION, FRACTION_OR_ZERO, POSITIVE, OneOf, Whole
from seqbraid.options.runs import SAFETY

__all__ = ["ClassWeights", "NonFinite", "Optimizer", "Scaling", "Schedule", "TrainingOptions"]

Optimizer = Literal["adam", "adamw", "sgd", "lbfgs"]
Schedule = Literal["constant", "linear", "cosine", "step"]
Scaling = Literal["none", "linear"]
NonFinite = Literal["stop", "rollback"]
ClassWeights = Literal["none", "balanced"]

_of_training = partial(option, group=Group("training"))
_of_rate = partial(option, group=Group("learning rate"))
_nested = partial(
    option,
    group=Group(
        "nested iteration",
        "The first epochs see sequences of which 2, 4, ... steps at a time are averaged, with a cell step "
        "longer by so much; they cost so much less.",
    ),
    change="fixed",
)
_COUNT = Whole(1, 10**6)
_BATCH = Whole(1, 10**9)


@documented
@dataclass(frozen=True)
class TrainingOptions:
    """Options of `Trainer`; raises `OptionsError` for values that do not fit together."""

    epochs: int = _of_training(
        10,
        _COUNT,
        "passes over the training part",
        detail="Those of nested iteration are among them.",
        metavar="N",
    )
    batch_size: int = _of_training(
        100, _BATCH, "sequences an update, of all data ranks together", metavar="B", change="fixed"
    )
    learning_rate: float = _of_rate(
        1e-3, POSITIVE, "learning rate, before scaling, warm-up and schedule", flag="--lr", metavar="RATE"
    )
    seed: int = _of_training(
        0,
        Whole(0, 2**63 - 1),
        "of the first weights, dropout and the order of batches",
        metavar="N",
        change="fixed",
    )
    optimizer: Optimizer = _of_training(
        "adam",
        OneOf(Optimizer),
        "lbfgs has a line search, and is for batches of all sequences",
        detail="Those of torch.optim; L-BFGS with the strong Wolfe line search.",
        change="fixed",
    )
    momentum: float = _of_training(
        0.9, FRACTION_OR_ZERO, "of sgd", metavar="M", beside=Beside("optimizer", "sgd")
    )
    weight_decay: float = _of_training(
        0.0, AT_LEAST_ZERO, "of adamw apart from the gradient, else added to it", metavar="D"
    )
    schedule: Schedule = _of_rate(
        "constant",
        OneOf(Schedule),
        "its course: constant, to zero in a line or a half cosine, or in steps",
        detail="It begins after the warm-up.",
    )
    warmup_epochs: float = _of_rate(
        0.0,
        AT_LEAST_ZERO,
        "epochs, or a fraction of one, over which it rises from nearly zero",
        metavar="N",
    )
    step_epochs: int = _of_rate(
        10, _COUNT, "epochs between steps", metavar="N", beside=Beside("schedule", "step")
    )
    step_factor: float = _of_rate(
        0.1, POSITIVE, "factor at each step", metavar="F", beside=Beside("schedule", "step")
    )
    lr_scaling: Scaling = _of_rate(
        "none",
        OneOf(Scaling),
        "linear: RATE is for `reference_batch` sequences, and grows with the batch",
        detail="See Goyal et al., 2017, section 2.1.",
    )
    reference_batch: int = _of_rate(
        100,
        _BATCH,
        "sequences that RATE is for, with `lr_scaling=linear`",
        metavar="B",
        beside=Beside("lr_scaling", "linear"),
    )
    clip_norm: float | None = _of_training(
        None, POSITIVE, "largest norm of all gradients together", metavar="N", unset="any"
    )
    label_smoothing: float = _of_training(
        0.0,
        FRACTION_OR_ZERO,
        "fraction of the target spread over all classes",
        metavar="FRACTION",
        change="fixed",
    )
    class_weights: ClassWeights = _of_training(
        "none",
        OneOf(ClassWeights),
        "balanced: rare classes count as much as frequent ones",
        detail="A class weighs N / (classes x its sequences).",
        change="fixed",
    )
    patience: int | None = _of_training(
        None,
        _COUNT,
        "end after so many epochs without a smaller loss on the watched part",
        detail="That is the validation part, else the test part.",
        metavar="N",
        unset="all epochs are done",
    )
    nested_levels: int = _nested(
        0, Whole(0, 20), "coarser levels to begin on: 2 begins four times coarser", metavar="L"
    )
    nested_epochs: int = _nested(
        1, _COUNT, "of the epochs, on each", metavar="N", beside=Beside("nested_levels")
    )
    on_nonfinite: NonFinite = option(
        "stop",
        OneOf(NonFinite),
        "a loss of nan or infinity ends the run, or sends it back to the last checkpoint, and on with the "
        "serial solver",
        group=SAFETY,
    )

    ema_decay: float | None = _of_training(
        None,
        FRACTION,
        "average the weights too, each update leaving this fraction of the average: epochs are measured with "
        "the average, and last.pt and best.pt hold it",
        detail="An exponential moving average, which begins at the first weights; 0.999 averages over some "
        "thousand updates. Not with L-BFGS.",
        metavar="D",
        unset="no average",
        change="fixed",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.optimizer == "lbfgs" and self.ema_decay is not None:
            raise OptionsError(
                "the steps of L-BFGS have no noise to average away, so that an average would only lag behind "
                "them; leave `ema_decay` out, or take another optimizer"
            )
        if self.optimizer == "lbfgs" and self.weight_decay:
            raise OptionsError("L-BFGS has no `weight_decay`; leave it out, or take another optimizer")
        if self.optimizer == "lbfgs" and self.clip_norm is not None:
            raise OptionsError(
                "L-BFGS measures the loss along its steps, to which clipped gradients do not belong; leave "
                "`clip_norm` out, or take another optimizer"
            )
        if self.warmup_epochs > self.epochs:
            raise OptionsError(
                f"a warm-up of {self.warmup_epochs:g} epochs is longer than the training of {self.epochs}"
            )
        coarse = self.nested_levels * self.nested_epochs
        if coarse >= self.epochs:
            raise OptionsError(
                f"nested iteration takes {coarse} of {self.epochs} epochs, which leaves none for the full "
                "sequence; take fewer levels, fewer epochs on each, or more epochs in all"
            )

    @property
    def base_rate(self) -> float:
        """The learning rate before warm-up and schedule."""
        scale = self.batch_size / self.reference_batch if self.lr_scaling == "linear" else 1.0
        return self.learning_rate * scale

    def rate(self, update: int, updates_per_epoch: int) -> float:
        """Return the learning rate of update 0, 1, ... of the training."""
        warmup = self.warmup_epochs * updates_per_epoch
        if update < warmup:
            return self.base_rate * (update + 1) / (math.floor(warmup) + 1)
        if self.schedule == "step":
            return self.base_rate * self.step_factor ** (update // (updates_per_epoch * self.step_epochs))
        done = (update - warmup) / (self.epochs * updates_per_epoch - warmup)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - done,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
        }[self.schedule]
        return self.base_rate * factor

    def time_coarsening(self, epoch: int) -> int:
        """Return by how much the sequences of epoch 1, 2, ... are coarsened in time; 1 is not at all."""
        done = (epoch - 1) // self.nested_epochs
        return 1 << max(self.nested_levels - done, 0)
