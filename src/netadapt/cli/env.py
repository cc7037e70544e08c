"""``netadapt env``: the block for a bug report."""

from __future__ import annotations

from typing import Any

from netadapt.cli.options import Json
from netadapt.cli.output import result, result_json

_PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "safetensors", "onnx", "onnxscript", "onnxruntime", "pydantic",
    "typer", "rich", "plotly", "jinja2", "pillow", "pyarrow", "torchvision", "timm",
)  # fmt: skip
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NETADAPT_DATA", "NETADAPT_CACHE")


def command(as_json: Json = False) -> None:
    """Print what a bug report needs."""
    seen = _environment()
    if as_json:
        result_json(seen)
        return
    width = max(map(len, seen))
    for key, value in seen.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {inner}" for name, inner in value.items()) or "none"
        result(f"{key:<{width}}  {value}")


def _environment() -> dict[str, Any]:
    import os

    from netadapt import __version__
    from netadapt.platforms.environment import available_cores, package_version, snapshot

    seen = snapshot(_PACKAGES)
    import torch

    return {
        "netadapt": __version__,
        **{key: value for key, value in seen.items() if key != "versions"},
        "usable_cores": len(available_cores()),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "versions": {name: package_version(name) for name in _PACKAGES},
    }
