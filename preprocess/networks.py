"""Networks of torchvision with weights from a download, a file or a seed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preprocess.torchvision_loading import import_torchvision
from seqbraid.errors import DataError, OptionsError, WeightsUnavailableError
from seqbraid.options.extraction import BACKBONES

__all__ = ["BACKBONES", "drop_classifier", "load_network", "random_seed"]


_DOWNLOAD_TIMEOUT_S = 10.0


def random_seed(weights: str) -> int | None:
    """Return SEED of "random:SEED", None for any other weights. Raises `OptionsError` for a bad seed."""
    kind, colon, text = weights.partition(":")
    if kind != "random" or not colon:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise OptionsError(f"weights {weights!r}: SEED must be a whole number from 0 to 2^63 - 1")
    return int(text)


def load_network(name: str, weights: str) -> tuple[nn.Module, str]:
    """Return one of `BACKBONES` in evaluation mode, as torchvision constructs it, and its weights' origin.

    `weights` is a torchvision weight name, a state-dict file, or "random:SEED"; a file is returned by its
    absolute path. Raises `OptionsError` for an unknown name, `DataError` for a file that does not fit,
    `WeightsUnavailableError` where a download fails.
    """
    if name not in BACKBONES:
        raise OptionsError(f"unknown backbone {name!r}; expected one of {', '.join(BACKBONES)}")
    models = import_torchvision().models
    seed = random_seed(weights)
    # The initialisation draws from torch's global generator; callers find it as they left it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed or 0)
        network: nn.Module = models.get_model(name, weights=None)
    if seed is not None:
        return network.eval(), weights
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
    return network.eval(), source


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
            "give a downloaded file as `weights`, or try without with `weights=random:SEED`"
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


def drop_classifier(network: nn.Module) -> None:
    """Make the network return its last activations averaged over the image, flattened to (n, F)."""
    if hasattr(network, "fc"):
        network.fc = nn.Identity()
    else:
        network.classifier = nn.AdaptiveAvgPool2d(1)
