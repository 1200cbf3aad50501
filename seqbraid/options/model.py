"""What a classifier consists of."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from functools import partial
from typing import Literal

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import FRACTION_OR_ZERO, POSITIVE, OneOf, Whole

__all__ = ["CellKind", "ModelOptions"]

CellKind = Literal["classic", "implicit"]

_of_model = partial(option, group=Group("model"), change="fixed")


@documented
@dataclass(frozen=True)
class ModelOptions:
    """The sizes, the cell and the dropout of a classifier; raises `OptionsError` for what they cannot be."""

    feature_size: int = _of_model(MISSING, Whole(1), "features of a step, as the data has them", flag=None)
    classes: int = _of_model(MISSING, Whole(1), "classes, as the data has them", flag=None)
    hidden_size: int = _of_model(100, Whole(1, 10**6), "hidden units", metavar="H")
    num_layers: int = _of_model(1, Whole(1, 1000), "stacked layers", metavar="L")
    cell: CellKind = _of_model(
        "classic", OneOf(CellKind), "torch.nn.GRU's cell, or the implicit one of Moon & Cyr"
    )
    gamma: float = _of_model(1.0, POSITIVE, "step of the cell's ODE", metavar="STEP")
    dropout: float = _of_model(
        0.0,
        FRACTION_OR_ZERO,
        "fraction set to zero in training, between layers and before the head",
        metavar="FRACTION",
    )

    def __post_init__(self) -> None:
        check(self)
