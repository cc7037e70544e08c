"""onnxruntime: ONNX files for the processor provider; the embedded default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact
from netadapt.platforms.runtimes.onnx_based import OnnxBased


class OnnxRuntime(OnnxBased):
    """Writes ONNX files."""

    name = "onnxruntime"
    description = "onnxruntime on the processor"
    requires: Mapping[str, str] = {"onnxruntime": "onnxruntime"}
    distributions = ("onnxruntime", "onnx")
    options: Mapping[str, str | int] = {}
    form = 2
    dtype = "float32"

    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Write the ONNX file itself."""
        return store(onnx_file, folder, ".onnx")
