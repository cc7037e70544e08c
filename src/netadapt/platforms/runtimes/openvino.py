"""openvino: ONNX files, which it reads itself, for the processor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact
from netadapt.platforms.runtimes.onnx_based import OnnxBased


class OpenVino(OnnxBased):
    """Writes ONNX files: openvino converts them to the same graph as its own converter would, when it loads them."""

    name = "openvino"
    description = "openvino on the processor, float32, tuned for latency"
    requires: Mapping[str, str] = {"openvino": "netadapt[openvino]"}
    distributions = ("openvino", "onnx")
    options: Mapping[str, str | int] = {}
    form = 1
    dtype = "float32"

    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Write the ONNX file itself."""
        return store(onnx_file, folder, ".onnx")
