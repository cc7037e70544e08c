"""onnxruntime: ONNX files for the processor provider, the embedded default, or for CUDA's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact
from netadapt.platforms.runtimes.onnx_based import OnnxBased

_GPUS = Path("/proc/driver/nvidia/gpus")
_MODEL = re.compile(r"^Model:\s*(.+?)\s*$", re.MULTILINE)


class OnnxRuntime(OnnxBased):
    """Writes ONNX files.

    Args:
        cuda: with the CUDA provider, which onnxruntime-gpu has; what it lacks runs on the processor.
    """

    name = "onnxruntime"
    description = "onnxruntime on the processor, or on a GPU with cuda=true"
    requires: Mapping[str, str] = {"onnxruntime": "onnxruntime"}
    form = 2
    dtype = "float32"

    def __init__(self, *, cuda: bool = False) -> None:
        super().__init__()
        self.options: Mapping[str, str | int] = {"cuda": 1} if cuda else {}
        self.distributions = ("onnxruntime-gpu" if cuda else "onnxruntime", "onnx")

    def accelerator(self) -> str | None:
        """Return the name of the GPU of this machine, or ``None`` if the processor computes.

        Raises:
            PlatformError: a GPU is asked for and this onnxruntime has no CUDA provider.
        """
        if not self.options:
            return None
        from netadapt.platforms.on_device.engine_onnxruntime import require_cuda

        try:
            require_cuda()
        except RuntimeError as error:
            raise PlatformError(f"platform 'onnxruntime' cannot be used here: {error}") from error
        models = [_MODEL.search(path.read_text()) for path in sorted(_GPUS.glob("*/information"))]
        return next((found[1] for found in models if found), "CUDA")

    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Write the ONNX file itself."""
        return store(onnx_file, folder, ".onnx")
