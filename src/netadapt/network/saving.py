"""A shrunk network on disk: `architecture.json` (what to keep of the user's own class), safetensors, a `load.py`.

`save` is called by runs/; `load` by everybody. Loading never traces and never unpickles; what the files say is checked
before anything is built, because a folder may come from someone else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor, nn

from netadapt.errors import ModelError, did_you_mean
from netadapt.files import write_atomic
from netadapt.network import surgery
from netadapt.network.attributes import allowed_attributes, may_follow, sizes_in
from netadapt.network.network import Network
from netadapt.network.standalone import leave_out, set_sizes
from netadapt.network.structure import within

ARCHITECTURE, WEIGHTS, LOADER = "architecture.json", "weights.safetensors", "load.py"
LARGEST_ARCHITECTURE = 64 * 2**20  # bytes; a VGG-16 at 224 px, the longest lists we know, takes 0.4 MiB

Index = Annotated[int, Field(ge=0, lt=2**31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Cut(_Strict):
    """One parameter or buffer: its original shape and the entries kept by axis (a text, as JSON wants it)."""

    shape: list[Index]
    keep: dict[str, list[Index]]


class _Weights(_Strict):
    file: Literal["weights.safetensors"]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Architecture(_Strict):
    format: Literal[1]
    netadapt: str
    model: str
    tensors: dict[str, _Cut]
    without: list[str] = []
    attributes: dict[str, dict[str, Index | list[Index]]]
    kept: dict[str, list[Index]]
    weights: _Weights
    metadata: dict[str, JsonValue]


def save(module: nn.Module, network: Network, folder: Path, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a shrunk module so that `load` (or the ``load.py`` beside it) rebuilds it from the user's class.

    Args:
        module: made by ``network.shrink``, tuned or not; the original itself is fine too.
        network: that it was shrunk from.
        folder: made if it does not exist; files of the same names are replaced, each atomically.
        metadata: further JSON values to keep with it, e.g. its resources.

    Returns:
        The path of ``architecture.json``, which is written last: while it is missing, the folder is not complete.

    Raises:
        ModelError: weights are not finite, ``module`` is no version of ``network``, or ``metadata`` is not JSON.
    """
    kept = network.kept_of(module)
    masks = surgery.masks(network, kept)
    surgery.check_version(network, module, kept)
    state = _state(module)
    _check_finite(state, "this network")
    folder.mkdir(parents=True, exist_ok=True)
    packed = safetensors.torch.save({k: t.detach().cpu().contiguous() for k, t in state.items()})
    plan = {
        "format": 1,
        "netadapt": version("netadapt"),
        "model": type(module).__qualname__,
        "tensors": {
            name: {
                "shape": list(network.shapes[name]),
                "keep": {str(axis): mask.nonzero()[0].tolist() for axis, mask in sorted(axes.items())},
            }
            for name, axes in masks.items()
        },
        **({"without": blocks} if (blocks := surgery.gone_blocks(network, kept)) else {}),
        "attributes": _attributes(module, network.model),
        "kept": {g.name: list(kept[g.name]) for g in network.groups if len(kept[g.name]) < g.width},
        "weights": {"file": WEIGHTS, "sha256": hashlib.sha256(packed).hexdigest()},
        "metadata": dict(metadata or {}),
    }
    try:
        text = json.dumps(plan, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"metadata cannot be written as JSON: {error}; give numbers, texts, lists and dicts"
        ) from error
    (folder / ARCHITECTURE).unlink(missing_ok=True)
    write_atomic(folder / WEIGHTS, packed)
    write_loader(folder)
    write_atomic(folder / ARCHITECTURE, text.encode())
    return folder / ARCHITECTURE


def write_loader(folder: Path) -> None:
    """Write the stand-alone ``load.py`` (torch and safetensors only) into ``folder``."""
    write_atomic(folder / LOADER, files("netadapt.network").joinpath("standalone.py").read_bytes())


def load(folder: str | Path, model: nn.Module) -> nn.Module:
    """Return the network saved in ``folder``, rebuilt from the user's own class.

    Args:
        folder: written by `save`.
        model: the original network, e.g. ``MyNet()``; its weights do not matter and it stays untouched.

    Raises:
        ModelError: files are missing, damaged, of another network, or ask for what no shrunk network needs.
    """
    folder = Path(folder)
    plan = _read_plan(folder)
    weights = _read_weights(folder, plan.weights.sha256)
    positions = {name: _positions(name, cut, model) for name, cut in plan.tensors.items()}
    _check_without(plan, model)
    _check_attributes(plan, model)
    result = surgery.slice_module(model, positions)
    for name in plan.without:
        leave_out(result, name)
    _fill(result, weights, folder)
    for name, values in plan.attributes.items():
        set_sizes(result.get_submodule(name), values)
    setattr(result, surgery.RECORD, {name: tuple(kept) for name, kept in plan.kept.items()})
    return result


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and persistent buffers by canonical name, shared ones once."""
    persistent = module.state_dict(keep_vars=True).keys()
    return {name: t for name, t in surgery.tensors_of(module).items() if name in persistent}


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{name} of {what} has values that are NaN or infinite; use an earlier step or variant")


def _attributes(module: nn.Module, original: nn.Module) -> dict[str, dict[str, int | tuple[int, ...]]]:
    result = {}
    for name, part in module.named_modules():
        before = original.get_submodule(name)
        names = sorted(allowed_attributes(part) | {key for key in vars(part) if may_follow(before, key)})
        changed = {key: getattr(part, key) for key in names if getattr(part, key) != getattr(before, key)}
        if changed:
            result[name] = changed
    return result


def _read_file(path: Path) -> bytes:
    if path.is_symlink():
        raise ModelError(f"{path} is a link; a saved network consists of plain files: copy the folder's real files")
    if not path.is_file():
        raise ModelError(f"{path} is missing; give the folder of a saved network, e.g. runs/x/variants/007")
    return path.read_bytes()


def _read_plan(folder: Path) -> _Architecture:
    path = folder / ARCHITECTURE
    if path.is_file() and path.stat().st_size > LARGEST_ARCHITECTURE:
        raise ModelError(
            f"{path} has {path.stat().st_size} bytes, more than any network needs ({LARGEST_ARCHITECTURE})"
        )
    try:
        return _Architecture.model_validate_json(_read_file(path))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{path} is no architecture this version reads: {at}: {first['msg']}; "
            "it is damaged or was written by a newer netadapt"
        ) from error


def _read_weights(folder: Path, sha256: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    data = _read_file(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(
            f"{path} has SHA-256 {found[:12]}..., {ARCHITECTURE} says {sha256[:12]}...; "
            "the files do not belong together or are damaged: copy the folder again"
        )
    try:
        weights = safetensors.torch.load(data)
    except Exception as error:
        raise ModelError(f"{path} is not a safetensors file: {error}; copy the folder again") from error
    _check_finite(weights, str(path))
    return weights


def _positions(name: str, cut: _Cut, model: nn.Module) -> dict[int, NDArray[np.int64]]:
    tensors = surgery.tensors_of(model)
    if name not in tensors:
        raise ModelError(
            f"{type(model).__name__} has no parameter or buffer {name!r}{did_you_mean(name, list(tensors))}; "
            "give the network that the run started from"
        )
    shape = list(tensors[name].shape)
    if shape != cut.shape:
        raise ModelError(
            f"{name} has shape {shape}, the saved network was cut from {cut.shape}; "
            "give the network that the run started from, with the same arguments"
        )
    result = {}
    for axis, keep in cut.keep.items():
        if not re.fullmatch(r"\d", axis) or int(axis) >= len(shape):
            raise ModelError(f"{name}: axis {axis!r} does not exist in shape {shape}; {ARCHITECTURE} is damaged")
        ascending = all(a < b for a, b in itertools.pairwise(keep))
        if not keep or not ascending or keep[-1] >= shape[int(axis)]:
            raise ModelError(
                f"{name}: the entries kept along axis {axis} are not ascending within "
                f"0..{shape[int(axis)] - 1}; {ARCHITECTURE} is damaged"
            )
        result[int(axis)] = np.array(keep, dtype=np.int64)
    return result


def _check_without(plan: _Architecture, model: nn.Module) -> None:
    parts = dict(model.named_modules())
    for name in plan.without:
        if not name or name not in parts:
            raise ModelError(
                f"{ARCHITECTURE} leaves out {name!r}, which is no module of {type(model).__name__}"
                f"{did_you_mean(name, list(parts))}; give the network that the run started from"
            )
    for name in (*plan.tensors, *plan.attributes):
        if within(name, plan.without):
            raise ModelError(f"{ARCHITECTURE} cuts {name}, which is in a block that it leaves out; it is damaged")


def _check_attributes(plan: _Architecture, model: nn.Module) -> None:
    parts = dict(model.named_modules())
    for name, values in plan.attributes.items():
        if name not in parts:
            raise ModelError(
                f"{type(model).__name__} has no module {name!r}{did_you_mean(name, list(parts))}; "
                "give the network that the run started from"
            )
        for key, value in values.items():
            if not _allowed(parts[name], key, value):
                raise ModelError(
                    f"{ARCHITECTURE} sets {name}.{key}, no size of {type(parts[name]).__name__} that "
                    "netadapt knows; where its class is your own, first import the module that calls "
                    "netadapt.register_attribute_fixer for it, as the run did (load.py in that folder needs no fixer)"
                )


def _allowed(part: nn.Module, key: str, value: int | list[int]) -> bool:
    """Tell whether an attribute may be set: sizes shrink, those of classes with a fixer are whatever it gave."""
    before = getattr(part, key, None)
    if isinstance(value, int) is not (type(before) is int):
        return False
    old, new = sizes_in(before), [value] if isinstance(value, int) else value
    if may_follow(part, key):
        return len(old) == len(new) and all(1 <= b <= a for a, b in zip(old, new, strict=True))
    return key in allowed_attributes(part) and isinstance(before, int | tuple)


def _fill(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    state = _state(module)
    missing, extra = sorted(state.keys() - weights.keys()), sorted(weights.keys() - state.keys())
    if missing or extra:
        odd = f"lacks {missing[0]!r}" if missing else f"has {extra[0]!r}, which the model has not"
        raise ModelError(f"{folder / WEIGHTS} {odd}; give the network that the run started from")
    with torch.no_grad():
        for name, tensor in state.items():
            value = weights[name]
            if value.shape != tensor.shape or value.is_floating_point() != tensor.is_floating_point():
                raise ModelError(
                    f"{name} is {list(value.shape)} {value.dtype} in {folder / WEIGHTS}, "
                    f"the network needs {list(tensor.shape)} {tensor.dtype}; give the network that the run started from"
                )
            tensor.copy_(value)
