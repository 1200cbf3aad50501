"""How a classifier is trained; nothing of the model, the data or the ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from seqbraid.errors import OptionsError

__all__ = ["ClassWeights", "NonFinite", "Optimizer", "Scaling", "Schedule", "TrainingOptions"]

Optimizer = Literal["adam", "adamw", "sgd", "lbfgs"]
Schedule = Literal["constant", "linear", "cosine", "step"]
Scaling = Literal["none", "linear"]
NonFinite = Literal["stop", "rollback"]
ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of `Trainer`; raises `OptionsError` for values that do not fit together.

    Attributes:
        epochs: passes over the training part, those of nested iteration among them.
        batch_size: sequences of one update, over all data ranks.
        learning_rate: before scaling, warm-up and schedule.
        seed: of the order of the sequences; the caller draws the weights by it.
        optimizer: torch.optim's Adam, AdamW, SGD or L-BFGS (strong Wolfe line search).
        momentum: of SGD.
        weight_decay: of AdamW apart from the gradient, of Adam and SGD as part of it.
        schedule: of the learning rate after the warm-up: constant; linear or cosine to zero; or step, by
            `step_factor` every `step_epochs` epochs.
        warmup_epochs: over which the learning rate rises linearly from nearly zero.
        lr_scaling: "linear" multiplies the learning rate by batch_size / reference_batch (Goyal et al., 2017,
            section 2.1).
        clip_norm: largest 2-norm of all gradients together; None: any.
        label_smoothing: share of the target that is spread over all classes.
        class_weights: "balanced" weights each class by N / (classes x its sequences).
        patience: epochs without a smaller loss on what is watched (the validation part, else the test part)
            after which training ends; None: all epochs are done.
        nested_levels: coarser levels, each with half the steps of the one below, on which training begins.
        nested_epochs: epochs on each of them.
        on_nonfinite: a loss that is not finite stops the training, or sends it back to the last checkpoint,
            from where it goes on with the serial solver.

    """

    epochs: int = 10
    batch_size: int = 100
    learning_rate: float = 1e-3
    seed: int = 0
    optimizer: Optimizer = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_epochs: float = 0.0
    step_epochs: int = 10
    step_factor: float = 0.1
    lr_scaling: Scaling = "none"
    reference_batch: int = 100
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    class_weights: ClassWeights = "none"
    patience: int | None = None
    nested_levels: int = 0
    nested_epochs: int = 1
    on_nonfinite: NonFinite = "stop"

    def __post_init__(self) -> None:
        for name, kinds in (
            ("optimizer", Optimizer),
            ("schedule", Schedule),
            ("lr_scaling", Scaling),
            ("on_nonfinite", NonFinite),
            ("class_weights", ClassWeights),
        ):
            value = getattr(self, name)
            if value not in get_args(kinds):
                raise OptionsError(f"{name} is {value!r}; expected one of {', '.join(get_args(kinds))}")
        for name in ("epochs", "batch_size", "reference_batch", "step_epochs", "nested_epochs", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(f"{name} is {value}; expected at least 1")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise OptionsError(f"{name} is {value}; expected a positive number")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise OptionsError(f"label_smoothing is {self.label_smoothing}; expected 0 to less than 1")
        if self.optimizer == "lbfgs" and self.weight_decay:
            raise OptionsError("L-BFGS has no weight decay; leave it out, or take another optimizer")
        if self.optimizer == "lbfgs" and self.clip_norm is not None:
            raise OptionsError(
                "L-BFGS measures the loss along its steps, to which clipped gradients do not belong; leave "
                "--clip-norm out, or take another optimizer"
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
        share = (update - warmup) / (self.epochs * updates_per_epoch - warmup)
        factor = {
            "constant": 1.0,
            "linear": 1.0 - share,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * share)),
        }[self.schedule]
        return self.base_rate * factor

    def level(self, epoch: int) -> int:
        """Return by how much the sequences of epoch 1, 2, ... are coarsened in time; 1 is not at all."""
        done = (epoch - 1) // self.nested_epochs
        return 1 << max(self.nested_levels - done, 0)
