"""Feature extraction as one writes it in a quarter of an hour.

The pipeline is measured against it, and its features are tested against these.
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from preprocess.decode import DecodeError
from preprocess.networks import drop_classifier, load_network
from preprocess.pipeline import Sampling

__all__ = ["PlainLoop"]

_BATCH = 16


class PlainLoop:
    """Clip by clip: OpenCV decodes, then torchvision's model, as constructed, takes batches of 16 frames."""

    def __init__(self, name: str, weights: str, layer: str = "logits") -> None:
        self._network, _ = load_network(name, weights)
        if layer == "pool":
            drop_classifier(self._network)
        self._mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        self._std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def features(self, path: str | os.PathLike[str], sampling: Sampling) -> npt.NDArray[np.float32]:
        """Return the features (n, F) of one clip."""
        cv2.setNumThreads(torch.get_num_threads())
        try:
            images = self._decode(path, sampling)
        finally:
            cv2.setNumThreads(1)  # as preprocess.decode has it
        if not images:
            raise DecodeError(f"{path}: no frame could be decoded")
        with torch.inference_mode():
            blocks = [
                self._network(torch.stack(images[first : first + _BATCH]))
                for first in range(0, len(images), _BATCH)
            ]
        result: npt.NDArray[np.float32] = torch.cat(blocks).numpy()
        return result

    def _decode(self, path: str | os.PathLike[str], sampling: Sampling) -> list[Tensor]:
        images: list[Tensor] = []
        capture = cv2.VideoCapture(os.fspath(path))
        number = 0
        while len(images) < sampling.frames:
            found, image = capture.read()
            if not found:
                break
            if number % sampling.stride == 0:
                images.append(self._tensor(image, sampling.size))
            number += 1
        capture.release()
        return images

    def _tensor(self, image: Any, size: int) -> Tensor:
        if image.shape[:2] != (size, size):
            shrinking = min(image.shape[:2]) >= size
            image = cv2.resize(
                image, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
            )
        pixels = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1).contiguous()
        return (pixels.float() / 255 - self._mean) / self._std
