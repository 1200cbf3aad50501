"""One call of a training, what it leaves and what it survives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import AT_LEAST_ZERO, FILE, FLAG, OneOf, Whole

__all__ = ["SAFETY", "RunOptions", "SafetyOptions", "TrainedOptions", "Which"]

SAFETY = Group("what a run leaves, and what it survives")

Which = Literal["last", "best"]

_of_call = partial(option, change="call")
_of_safety = partial(option, group=SAFETY)


@documented
@dataclass(frozen=True)
class RunOptions:
    """The places of a training, and whether it begins or goes on."""

    data: Path | None = option(
        None, FILE, "feature store, .npz file or folder of .npy", metavar="DATA", positional=True
    )
    output: Path | None = _of_call(None, FILE, "run folder to make", metavar="RUN")
    overwrite: bool = _of_call(False, FLAG, "replace a run that lies there", in_file="read")
    resume: bool = _of_call(
        False,
        FLAG,
        "go on with the run in RUN, with its options but for those given; where there is none, begin it",
        in_file="never",
    )
    config: Path | None = _of_call(
        None,
        FILE,
        "TOML file of options, named as here without the dashes (hidden-size = 100); the command line wins "
        "over it; paths in it start from the current directory, as on the command line",
        metavar="FILE",
        in_file="never",
    )

    def __post_init__(self) -> None:
        check(self)


@documented
@dataclass(frozen=True)
class SafetyOptions:
    """What a training leaves beside its results."""

    checkpoint_minutes: float = _of_safety(
        10.0,
        AT_LEAST_ZERO,
        "time between checkpoints within an epoch; 0 writes one after every update",
        metavar="M",
    )
    keep: int = _of_safety(2, Whole(1, 10**6), "checkpoints to keep", metavar="K")
    tensorboard: bool = _of_safety(False, FLAG, "write scalars for TensorBoard too, into RUN/tensorboard")

    def __post_init__(self) -> None:
        check(self)


@documented
@dataclass(frozen=True)
class TrainedOptions:
    """What is taken of a run that is finished."""

    which: Which = option(
        "last",
        OneOf(Which),
        "weights of the last epoch, or of the best by the validation part, else by the test part",
    )

    def __post_init__(self) -> None:
        check(self)
