"""From a variant to the files that a runtime loads."""

from __future__ import annotations

from netadapt.export.onnx import export_onnx
from netadapt.export.safetensors import copy_variant
from netadapt.export.slicing import NotSliceable, SlicingTemplate

FORMATS = ("onnx", "safetensors")

__all__ = ["FORMATS", "NotSliceable", "SlicingTemplate", "copy_variant", "export_onnx"]
