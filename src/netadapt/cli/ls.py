"""``netadapt ls``: what there is to choose from, and what is installed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from netadapt.cli.options import Json
from netadapt.cli.output import result, result_json


class Kind(StrEnum):
    """What can be listed."""

    platforms = "platforms"
    models = "models"
    methods = "methods"
    formats = "formats"


_METHODS = (
    {
        "name": "netadapt",
        "state": "ready",
        "description": "Algorithm 1 of arXiv 1804.03230; search.mode fast tunes the most promising proposals, "
        "faithful all of them",
        "arguments": "[search] of the configuration",
    },
    {
        "name": "one-shot",
        "state": "ready",
        "description": "all widths at once, from the loss of cutting each group alone, with search.exchanges of whole "
        "networks too; trains on nothing before the long-term fine-tune",
        "arguments": "[search] of the configuration",
    },
    {
        "name": "uniform",
        "state": "ready",
        "description": "the width multiplier: all groups scaled by one factor",
        "arguments": "[search] of the configuration",
    },
    {
        "name": "from-scratch",
        "state": "ready",
        "description": "the width multiplier with fresh weights, trained by [training.long_term] alone",
        "arguments": "[search] of the configuration",
    },
)
_FORMATS = {
    "onnx": ("for onnxruntime and other runtimes; checked by values and measured again", "onnxruntime"),
    "safetensors": ("architecture.json, weights and load.py for PyTorch", "safetensors"),
}


def command(kind: Annotated[Kind, typer.Argument(help="What to list.")], as_json: Json = False) -> None:
    """List what there is to choose from."""
    entries = {"platforms": _platforms, "models": _models, "methods": lambda: list(_METHODS), "formats": _formats}
    found = entries[kind.value]()
    if as_json:
        result_json(found)
        return
    for entry in found:
        result(f"{entry['name']:<18} {entry['state']:<13} {entry['description']}")
        if entry["arguments"]:
            result(f"{'':<18} {entry['arguments']}")


def _platforms() -> list[dict[str, str]]:
    from netadapt.platforms import list_platforms

    return [
        {
            "name": info.name,
            "state": info.state,
            "description": info.description,
            "arguments": " ".join(f"{key}={default}" for key, default in info.parameters.items()),
        }
        for info in list_platforms()
    ]


def _models() -> list[dict[str, str]]:
    from netadapt.models import list_models

    return [
        {
            "name": entry.name,
            "state": _state(entry.name.partition(":")[0], entry.name),
            "description": entry.description,
            "arguments": entry.arguments,
        }
        for entry in list_models()
    ]


def _state(package: str, name: str) -> str:
    """Say whether the library that a MODEL comes from is installed; our own and the user's need none."""
    from importlib.util import find_spec

    if package not in ("torchvision", "timm") or ":" not in name:
        return "ready"
    return "ready" if find_spec(package) is not None else "not installed"


def _formats() -> list[dict[str, str]]:
    from importlib.util import find_spec

    from netadapt.export import FORMATS

    return [
        {
            "name": name,
            "state": "ready" if find_spec(_FORMATS[name][1]) else "not installed",
            "description": _FORMATS[name][0],
            "arguments": f"netadapt export RUN --at best --format {name} --out DIR",
        }
        for name in FORMATS
    ]
