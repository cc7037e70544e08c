"""Weights in safetensors: Google's folded MobileNetV1, the CIFAR ResNets, and netadapt's own files.

The metadata in a file tells which network it is for and how that must be built (`read_layout`); `registry.py` builds it
and calls `load_weights`. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.models.mobilenet_v1 import MobileNetV1

_SCALE = ".scale"  # suffix of the scales of int8 tensors
ASSETS = Path(__file__).parent / "assets"
_GOOGLE = re.compile(r"mobilenet_v1_([\d.]+)")
_RESNET = re.compile(r"CIFAR ResNet-(\d+)")
_LAYER = re.compile(r"(\w+):(conv|dw) k(\d+) s(\d+) (relu6|None)")


@dataclass(frozen=True)
class Layout:
    """What the metadata of a file of weights says.

    Attributes:
        model: name of the network it belongs to; ``""`` where the metadata does not tell.
        arguments: how that network must be built.
        rows: layer names of the file in order with (depthwise, kernel, stride), for Google's files only.
        background: the first output is a background class to drop.
    """

    model: str
    arguments: Mapping[str, Any]
    rows: tuple[tuple[str, bool, int, int], ...] = ()
    background: bool = False


def weights_path(text: str) -> Path:
    """Return the file for ``weights=...``: a path, or the name of weights that netadapt brings along (``digits``)."""
    from netadapt.models.spec import expand_path

    path = expand_path(text, ModelError)
    if path.is_file():
        return path
    bundled = {file.stem: file for file in sorted(ASSETS.glob("*.safetensors"))}
    if text in bundled:
        return bundled[text]
    names = ", ".join(bundled)
    raise ModelError(f"weights={text}: no such file ({path.absolute()}); weights that come with netadapt: {names}")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, as float32 (int8 ones times their scale), and the metadata of a safetensors file.

    Raises:
        ModelError: not a readable safetensors file, or a value is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from error
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(_SCALE)}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8 and name + _SCALE in scales:
            tensors[name] = tensor.float() * _column(scales[name + _SCALE], tensor)
        elif tensor.is_floating_point():
            tensors[name] = tensor.float()
        if not torch.isfinite(tensors[name]).all():
            raise ModelError(f'{path}: "{name}" has values that are not finite; the file is damaged')
    return tensors, metadata


def read_layout(path: Path, metadata: Mapping[str, str]) -> Layout:
    """Return what the metadata of a file says about its network.

    Raises:
        ModelError: metadata that contradicts itself.
    """
    if "netadapt_model" in metadata:
        return Layout(metadata["netadapt_model"], json.loads(metadata["netadapt_arguments"]))
    architecture = metadata.get("architecture", "")
    if match := _GOOGLE.fullmatch(architecture):
        return _google_layout(path, metadata, float(match[1]))
    if match := _RESNET.match(architecture):
        return Layout(f"resnet{match[1]}", {})
    return Layout("", {})


def _google_layout(path: Path, metadata: Mapping[str, str], width: float) -> Layout:
    rows = tuple(
        (name, kind == "dw", int(kernel), int(stride))
        for name, kind, kernel, stride, _ in _LAYER.findall(metadata.get("layers", ""))
    )
    if not rows:
        raise ModelError(f'{path}: the metadata has no "layers"; a MobileNetV1 file lists them in order')
    outputs = int(metadata["classes"].split(";")[0])
    background = "background" in metadata["classes"]
    arguments = {
        "width": width,
        "resolution": int(metadata["resolution"]),
        "classes": outputs - background,
        "same_padding": "SAME" in metadata.get("padding", ""),
        "batch_norm": "folded" not in metadata.get("batch_norm", ""),
    }
    return Layout("mobilenet_v1", arguments, rows, background)


def load_weights(model: nn.Module, path: Path, tensors: Mapping[str, Tensor], layout: Layout) -> None:
    """Fill ``model`` with the tensors of a file.

    Raises:
        ModelError: names or shapes do not fit; the message lists the first of each.
    """
    state = _google_state(model, path, tensors, layout) if layout.rows else dict(tensors)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    # files that never trained further carry no counters of batches: those start from nought
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [n for n in state if n not in expected]
    shapes = [
        f"{name} is {tuple(state[name].shape)} in the file, {shape} in the network"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = []
    for title, items in (("missing in the file", missing), ("unknown to the network", unknown), ("shapes", shapes)):
        if items:
            problems.append(f"{title}: {', '.join(items[:3])}{', ...' if len(items) > 3 else ''} ({len(items)})")
    if problems:
        raise ModelError(f"{path} does not fit this {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict(state, strict=False)


def _google_state(model: nn.Module, path: Path, tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Translate Google's ``conv0 .. conv27`` to the names of `MobileNetV1`, checking each layer's kind on the way."""
    if not isinstance(model, MobileNetV1):
        raise ModelError(f"{path} holds a MobileNetV1, not a {type(model).__name__}")
    targets = [(n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    if len(targets) != len(layout.rows):
        raise ModelError(f"{path}: {len(layout.rows)} layers in the metadata, {len(targets)} in MobileNetV1")
    state = {}
    for (source, depthwise, kernel, stride), (target, module) in zip(layout.rows, targets, strict=True):
        weight, bias = tensors[f"{source}.weight"], tensors[f"{source}.bias"]
        if isinstance(module, nn.Linear):
            first = int(layout.background)
            weight, bias = weight[first:, :, 0, 0], bias[first:]
        elif (module.groups > 1, module.kernel_size[0], module.stride[0]) != (depthwise, kernel, stride):
            raise ModelError(f"{path}: {source} is not a layer like MobileNetV1's {target} ({module})")
        state[f"{target}.weight"], state[f"{target}.bias"] = weight, bias
    return state


def dump_weights(model: nn.Module, name: str, arguments: Mapping[str, Any]) -> bytes:
    """Return ``model`` as a small safetensors file that `resolve_model` can load by its metadata.

    Matrices and kernels are kept as int8 with one scale per output channel (a quarter of the size), vectors as float32.

    Args:
        model: whose weights and statistics to write.
        name: of the network in the registry.
        arguments: with which the registry builds it.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        value = value.detach().cpu().contiguous()
        if value.ndim > 1:
            scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            tensors[key + _SCALE] = scale
            value = (value / _column(scale, value)).round().to(torch.int8)
        tensors[key] = value
    metadata = {"netadapt_model": name, "netadapt_arguments": json.dumps(dict(arguments), sort_keys=True)}
    return save(tensors, metadata)


def _column(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *(1,) * (like.ndim - 1))
