"""Imports torchvision beside a CPU build of torch. Called by benchmarks and tests that need torchvision or timm.

The wheel of torchvision on the package index is compiled for the CUDA build of torch. Without its compiled half the
import stops where it registers the operators ``nms`` and ``qnms``; their schemas are all that is missing. Classifiers,
segmentation networks and backbones use no compiled operator.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import torch

_BOXES = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []  # an operator lives as long as the library object that defined it


@cache
def import_torchvision() -> ModuleType:
    """Return torchvision, importable from now on in this process; call it before ``import timm`` too.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_BOXES}")
    _libraries.append(library)
    return import_module("torchvision")
