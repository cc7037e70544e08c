"""executorch with XNNPACK: PyTorch's own runtime for phones and small devices."""

from __future__ import annotations

from collections.abc import Mapping

from netadapt.platforms.runtimes.converted import Converted


class ExecuTorch(Converted):
    """Writes executorch programs."""

    name = "executorch"
    description = "executorch with XNNPACK on the processor"
    requires: Mapping[str, str] = {"executorch": "netadapt[executorch]"}
    distributions = ("executorch",)
    options: Mapping[str, str | int] = {}
    form = 1
    dtype = "float32"
    suffix = ".pte"
