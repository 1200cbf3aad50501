"""Backbones: ImageNet classifiers of torchvision that turn each frame into one feature vector."""

from __future__ import annotations

import hashlib
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from preprocess.torchvision_loading import import_torchvision
from seqbraid.comm import Communicator, as_communicator, on_first_rank
from seqbraid.errors import DataError, OptionsError, WeightsUnavailableError

__all__ = ["BACKBONES", "LAYERS", "Backbone", "load_backbone", "random_seed"]

BACKBONES = ("resnet18", "resnet34", "resnet50", "squeezenet1_1")
LAYERS = ("logits", "pool")

_POOL_SIZES = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "squeezenet1_1": 512}
_LOGITS_SIZE = 1000
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Small, so that the activations of a batch stay in the processor's cache: four images at a time run twice
# as fast as sixteen (squeezenet1_1, 240 x 240 pixels, one thread).
_BATCH = 4
_DOWNLOAD_TIMEOUT_S = 10.0


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
            _drop_classifier(network)
        self._network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(_MEAN).view(3, 1, 1)
        self._std = torch.tensor(_STD).view(3, 1, 1)

    def features(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return one feature vector a frame: (n, s, s, 3) uint8 RGB to (n, F) float32.

        A frame's result does not depend on the frames beside it, but for rounding.
        """
        blocks = [self._batch(frames[first : first + _BATCH]) for first in range(0, len(frames), _BATCH)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.feature_size), dtype=np.float32)

    def _batch(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            # Permuted channels-last pixels are what the network wants: no copy but the one to float.
            pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
            result: Tensor = self._network(pixels.div_(255).sub_(self._mean).div_(self._std))
            return result.numpy()

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
    first = on_first_rank(
        as_communicator(comm), lambda: _load(name, weights, layer), "loading the backbone on rank 0"
    )
    return first or _load(name, weights, layer)


def random_seed(weights: str) -> int | None:
    """Return SEED of "random:SEED", None for any other weights. Raises `OptionsError` for a bad seed."""
    kind, colon, text = weights.partition(":")
    if kind != "random" or not colon:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise OptionsError(f"weights {weights!r}: SEED must be a whole number from 0 to 2^63 - 1")
    return int(text)


def _load(name: str, weights: str, layer: str) -> Backbone:
    if name not in BACKBONES:
        raise OptionsError(f"unknown backbone {name!r}; expected one of {', '.join(BACKBONES)}")
    if layer not in LAYERS:
        raise OptionsError(f"unknown layer {layer!r}; expected one of {', '.join(LAYERS)}")
    models = import_torchvision().models
    seed = random_seed(weights)
    # The initialisation draws from torch's global generator; callers find it as they left it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed or 0)
        network: nn.Module = models.get_model(name, weights=None)
    if seed is not None:
        return Backbone(name, layer, weights, network)
    names = models.get_model_weights(name).__members__
    if weights in names:
        state, source = _download(names[weights], name), weights
    elif Path(weights).is_file():
        # Absolute, so that a later `predict` finds it from any folder.
        source = str(Path(weights).resolve())
        state = _read(Path(weights))
    else:
        raise OptionsError(
            f"weights {weights!r}: no such file, and {name} has no weights of that name; expected "
            f"{', '.join(names)}, a file, or random:SEED"
        )
    _check(state, network.state_dict(), source, name)
    network.load_state_dict(state, strict=False)
    return Backbone(name, layer, source, network)


def _download(entry: Any, name: str) -> Mapping[str, Any]:
    try:
        with _socket_timeout(_DOWNLOAD_TIMEOUT_S):
            state: Mapping[str, Any] = entry.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
            )
    except (OSError, HTTPException, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsUnavailableError(
            f"the weights {entry.name} of {name} cannot be had from {entry.url} ({reason}); "
            "give a downloaded file with --weights FILE, or try without with --weights random:SEED"
        ) from error
    return state


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except Exception as error:
        # Garbage makes torch.load raise almost anything; its long advice (to load unsafely) is not ours.
        raise DataError(f"{path}: not a file of weights as torch.save writes them") from error
    if not isinstance(state, Mapping):
        raise DataError(f"{path}: holds a {type(state).__name__}; expected a state dict (name: tensor)")
    return state


def _check(state: Mapping[str, Any], expected: Mapping[str, Tensor], source: str, name: str) -> None:
    """Raise `DataError` naming the first entry of `state` that does not fit the network."""
    for key, tensor in expected.items():
        given = state.get(key)
        if given is None:
            # Files from before torch 0.4.1 lack these counters, and evaluation does not read them.
            if key.endswith("num_batches_tracked"):
                continue
            raise DataError(
                f"{source}: no {key} of shape {tuple(tensor.shape)}; these are not {name}'s weights"
            )
        if not isinstance(given, Tensor) or given.shape != tensor.shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise DataError(f"{source}: {key} is {shape}, {name} expects {tuple(tensor.shape)}")
    for key in state:
        if key not in expected:
            raise DataError(f"{source}: {key} is not part of {name}; these are another network's weights")


def _drop_classifier(network: nn.Module) -> None:
    """Make the network return its last activations averaged over the image, flattened to (n, F)."""
    if hasattr(network, "fc"):
        network.fc = nn.Identity()
    else:
        network.classifier = nn.AdaptiveAvgPool2d(1)


def _sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        # Counters of training steps do not change features, and some files lack them.
        if not key.endswith("num_batches_tracked"):
            digest.update(key.encode())
            digest.update(state[key].contiguous().numpy().tobytes())
    return digest.hexdigest()
