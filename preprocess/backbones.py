"""Backbones: ImageNet classifiers of torchvision that turn each frame into one feature vector."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from preprocess.batch_pool import BatchPool
from preprocess.networks import drop_classifier, load_network
from seqbraid.comm import Communicator, as_communicator, on_rank_zero
from seqbraid.errors import OptionsError
from seqbraid.options.extraction import LAYERS

__all__ = ["BATCH", "LAYERS", "Backbone", "load_backbone"]

# Frames go through the network so many at a time, always: how it rounds depends on the size of a batch, but
# not on a frame's place in it nor on its neighbours. Larger ones are not faster and take more memory.
BATCH = 8

_POOL_SIZES = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "squeezenet1_1": 512}
_LOGITS_SIZE = 1000
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Backbone:
    """A frozen network from frames to features; made by `load_backbone`.

    `name`, `layer` ("logits" or "pool"), `weights` (where they came from), `weights_sha256` (equal for
    equal weights, whatever their source) and `feature_size` F.
    """

    def __init__(self, name: str, layer: str, weights: str, network: nn.Module) -> None:
        self.name = name
        self.layer = layer
        self.weights = weights
        self.weights_sha256 = _sha256(network.state_dict())
        self.feature_size = _LOGITS_SIZE if layer == "logits" else _POOL_SIZES[name]
        if layer == "pool":
            drop_classifier(network)
        network = _fold_batch_norm(network)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # (pixel / 255 - mean) / std, as one product and one sum.
        self._scale = (1 / (255 * torch.tensor(_STD, dtype=torch.float64))).float().view(3, 1, 1)
        shift = -torch.tensor(_MEAN, dtype=torch.float64) / torch.tensor(_STD, dtype=torch.float64)
        self._shift = shift.float().view(3, 1, 1)

    def features(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return one feature vector a frame: (n, s, s, 3) uint8 RGB to (n, F) float32.

        A frame's result does not depend on the frames beside it, nor on the number of threads.
        """
        result = np.empty((len(frames), self.feature_size), dtype=np.float32)
        with BatchPool(self.batch) as pool:
            futures = []
            for first in range(0, len(frames), BATCH):
                part = frames[first : first + BATCH]
                if len(part) < BATCH:
                    blank = np.zeros((BATCH - len(part), *part.shape[1:]), dtype=np.uint8)
                    part = np.concatenate([part, blank])
                futures.append(pool.submit(part))
            for number, future in enumerate(futures):
                first = number * BATCH
                result[first : first + BATCH] = future.result()[: len(frames) - first]
        return result

    def batch(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the features (BATCH, F) float32 of exactly `BATCH` frames, on torch's own threads."""
        if len(frames) != BATCH:
            raise ValueError(f"{len(frames)} frames; expected a batch of {BATCH}")
        with torch.inference_mode():
            # Permuted channels-last pixels are what the network wants: no copy but the one to float.
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
            result: Tensor = self._network(pixels.mul_(self._scale).add_(self._shift))
            return result.numpy()

    def operations(self, size: int) -> int:
        """Count the additions and multiplications of convolutions and linear layers for one frame."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self._network(torch.zeros(1, 3, size, size))
        return int(counter.get_total_flops())

    def describe(self) -> dict[str, Any]:
        """Return the options to store with the features, as plain JSON values."""
        return {
            "backbone": self.name,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "layer": self.layer,
            "mean": list(_MEAN),
            "std": list(_STD),
        }


def load_backbone(
    name: str, weights: str, layer: str = "logits", comm: Communicator | None = None
) -> Backbone:
    """Load one of `BACKBONES`, the same on every rank of `comm` (default: this process alone).

    `weights` is a torchvision weight name ("IMAGENET1K_V1", "DEFAULT", ...), a state-dict file, or
    "random:SEED". `layer` is "logits" (F = 1000) or "pool" (the globally averaged last activations).
    Collective: rank 0 loads first, so that a download, or an error, happens once. Raises `OptionsError`
    for an unknown name, `DataError` for a file that does not fit, `WeightsUnavailableError` where a
    download fails.
    """
    backbone: Backbone | None = None

    def load() -> None:
        nonlocal backbone
        backbone = _load(name, weights, layer)

    on_rank_zero(as_communicator(comm), load, "loading the backbone on rank 0")
    return backbone or _load(name, weights, layer)


def _load(name: str, weights: str, layer: str) -> Backbone:
    if layer not in LAYERS:
        raise OptionsError(f"unknown layer {layer!r}; expected one of {', '.join(LAYERS)}")
    network, source = load_network(name, weights)
    return Backbone(name, layer, source, network)


def _fold_batch_norm(network: nn.Module) -> nn.Module:
    """Put every batch norm that follows a convolution into that convolution's weights."""
    for module in network.modules():
        children = list(module.named_children())
        for (name, first), (next_name, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, next_name, nn.Identity())
    return network


def _sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        # Counters of training steps do not change features, and some files lack them.
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
