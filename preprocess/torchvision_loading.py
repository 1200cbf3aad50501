"""Importing torchvision, also where its own compiled library does not fit the installed torch."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

__all__ = ["import_torchvision"]

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Operators live as long as the library object that declared them.
_declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import and return `torchvision`.

    Where its compiled library cannot be loaded (the registry's build needs CUDA, torch may be built
    without), its import stumbles over detection operators that no classifier uses; these are then declared
    without a body. Every other error of the import passes through.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)
    return importlib.import_module("torchvision")
