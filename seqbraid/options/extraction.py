"""What `seqbraid preprocess` makes of videos, and how it divides them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import FILE, FLAG, FRACTION, TEXT, OneOf, Several, Whole

__all__ = ["BACKBONES", "DTYPES", "LAYERS", "SPLITS", "SUBSETS", "ExtractOptions", "Sampling", "SplitOptions"]

BACKBONES = ("resnet18", "resnet34", "resnet50", "squeezenet1_1")
LAYERS = ("logits", "pool")
DTYPES = ("float32", "float16")
# Parts of data sets that go by a name of their own, by their classes.
SUBSETS = {"hmdb6": ("chew", "eat", "jump", "run", "sit", "walk")}

_of_features = partial(option, group=Group("features of videos"))
SPLITS = Group("classes and splits of videos")
_of_splits = partial(option, group=SPLITS)


@documented
@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are taken: 0, `stride`, 2 `stride`, ..., at most `frames`; `size` square."""

    frames: int = _of_features(
        128, Whole(1, 100_000), "frames kept of each clip, from its start", metavar="T"
    )
    size: int = _of_features(
        240, Whole(32, 4096), "side of the square that frames are resized to", metavar="PIXELS"
    )
    stride: int = _of_features(1, Whole(1, 10_000), "keep one frame in K", metavar="K")

    def __post_init__(self) -> None:
        check(self)

    @staticmethod
    def of(options: Mapping[str, int]) -> Sampling:
        """Return the sampling that a store's `options` describe."""
        return Sampling(options["frames"], options["size"], options.get("stride", 1))


@documented
@dataclass(frozen=True)
class SplitOptions:
    """Which classes to take, and how to divide their clips.

    With `splits` all of its splits are kept. Otherwise one is drawn from `seed`, named "drawn". A manifest
    that has a split leaves nothing to draw.
    """

    splits: Path | None = _of_splits(
        None,
        FILE,
        "folder of HMDB51 split files, all of which are kept",
        metavar="DIR",
        unset="a split is drawn",
    )
    split: str | None = _of_splits(
        None, TEXT, "the split that `train` takes unless told otherwise", metavar="NAME", unset="the first, 1"
    )
    draw: Literal["stratified", "random"] = _of_splits(
        "stratified",
        OneOf("stratified", "random"),
        "without split files: test with a fraction of every class, or of all clips",
    )
    test_fraction: float = _of_splits(0.3, FRACTION, "the fraction drawn for testing", metavar="X")
    seed: int = _of_splits(0, Whole(0, 2**63 - 1), "of the draw", metavar="N")
    classes: tuple[str, ...] | None = _of_splits(
        None, Several(TEXT), "only these classes", metavar="CLASS", several=True, unset="all there are"
    )

    def __post_init__(self) -> None:
        check(self)


@documented
@dataclass(frozen=True)
class ExtractOptions:
    """What to compute of each clip, and how to divide the clips for training."""

    backbone: str = _of_features("resnet18", TEXT, ", ".join(BACKBONES), metavar="NAME")
    weights: str = _of_features(
        "IMAGENET1K_V1",
        TEXT,
        "a torchvision weight name, a state-dict file, or random:SEED",
        metavar="SPEC",
    )
    layer: str = _of_features(
        "logits", OneOf(*LAYERS), "the 1000 class scores, or the averaged last activations"
    )
    dtype: str = option("float32", OneOf(*DTYPES), "how features are stored; float16 takes half the room")
    sampling: Sampling = field(default_factory=Sampling)
    splits: SplitOptions = field(default_factory=SplitOptions)
    strict: bool = option(False, FLAG, "end at the first clip that cannot be decoded", unset="leave it out")
    check: bool = option(False, FLAG, "first verify what is in OUT already, and do what is damaged again")

    def __post_init__(self) -> None:
        check(self)
