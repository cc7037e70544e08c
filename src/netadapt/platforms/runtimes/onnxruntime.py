"""onnxruntime: ONNX files for the processor provider, the embedded default, or for CUDA's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact
from netadapt.platforms.runtimes.onnx_based import OnnxBased


class OnnxRuntime(OnnxBased):
    """Writes ONNX files.

    Args:
        cuda: with the CUDA provider, which onnxruntime-gpu has; what it lacks runs on the processor.
    """

    name = "onnxruntime"
    description = "onnxruntime on the processor, or on a GPU with cuda=true"
    requires: Mapping[str, str] = {"onnxruntime": "onnxruntime"}
    distributions = ("onnxruntime", "onnx")
    form = 2
    dtype = "float32"

    def __init__(self, *, cuda: bool = False) -> None:
        super().__init__()
        self.options: Mapping[str, str | int] = {"cuda": 1} if cuda else {}

    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Write the ONNX file itself."""
        return store(onnx_file, folder, ".onnx")
