"""litert (TensorFlow Lite) with XNNPACK: what runs on most phones; files come from `litert_torch`."""

from __future__ import annotations

from collections.abc import Mapping

from netadapt.platforms.runtimes.converted import Converted


class LiteRt(Converted):
    """Writes TFLite files."""

    name = "litert"
    description = "litert (TFLite) with XNNPACK on the processor"
    requires: Mapping[str, str] = {"ai_edge_litert": "netadapt[litert]", "litert_torch": "netadapt[litert]"}
    distributions = ("ai-edge-litert", "litert-torch", "litert-converter")
    options: Mapping[str, str | int] = {}
    form = 1
    dtype = "float32"
    suffix = ".tflite"
