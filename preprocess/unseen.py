"""Features of videos that are in no store: the same backbone and sampling as a store's, in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.backbones import Backbone, load_backbone
from preprocess.pipeline import Sampling, clip_features
from seqbraid.comm import Communicator
from seqbraid.errors import DataError

__all__ = ["backbone_from_options", "features_of_clips"]

_logger = logging.getLogger("seqbraid.preprocess")


def features_of_clips(
    paths: Sequence[str | os.PathLike[str]],
    backbone: Backbone,
    sampling: Sampling,
) -> list[npt.NDArray[np.float32]]:
    """Return the features (n_i, F) of each video file, in memory.

    A file that ended early is logged as a warning. Raises `DecodeError` for a file of which no frame can be
    decoded.
    """
    features: dict[int, npt.NDArray[np.float32]] = {}
    for result in clip_features(paths, backbone, sampling):
        if result.features is None:
            assert result.error is not None
            raise result.error
        if result.warning:
            _logger.warning(f"{paths[result.task]}: {result.warning}")
        features[result.task] = result.features
    return [features[task] for task in range(len(paths))]


def backbone_from_options(
    options: Mapping[str, Any], weights: str | None = None, comm: Communicator | None = None
) -> Backbone:
    """Load the backbone that a store's `options` describe; `weights` overrides where its weights come from.

    Collective over `comm`. Raises `DataError` where the weights are gone or are not those of the store.
    """
    try:
        name, source, layer = options["backbone"], options["weights"], options["layer"]
        expected = options["weights_sha256"]
    except KeyError as error:
        raise DataError(f"these features come from no backbone of seqbraid (no option {error})") from error
    if weights is None and Path(source).is_absolute() and not Path(source).is_file():
        raise DataError(f"the {name} weights {source} are gone; pass the same ones as `weights`")
    backbone = load_backbone(name, weights or source, layer, comm)
    if backbone.weights_sha256 != expected:
        raise DataError(
            f"the {name} weights {backbone.weights} have sha256 {backbone.weights_sha256}, but the features "
            f"were made with {expected}; pass the same file as `weights`"
        )
    return backbone
