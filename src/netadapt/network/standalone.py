"""Rebuild the network of this folder from its own class, with torch and safetensors only (written by netadapt).

from load import load
model = load(MyNet())
"""

import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch


def load(model: torch.nn.Module, folder: Path = Path(__file__).parent) -> torch.nn.Module:
    """Cut ``model`` in place as architecture.json says, fill in the weights, and return it."""
    plan = json.loads((folder / "architecture.json").read_text())
    data = (folder / "weights.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != plan["weights"]["sha256"]:
        raise ValueError("weights.safetensors does not belong to architecture.json")
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, cut in plan["tensors"].items():
        if list(tensors[name].shape) != cut["shape"]:
            raise ValueError(f"{name} has shape {list(tensors[name].shape)}, expected {cut['shape']}")
        for axis, keep in cut["keep"].items():
            where = torch.tensor(keep, device=tensors[name].device)
            tensors[name].data = tensors[name].data.index_select(int(axis), where)
    for name, attributes in plan["attributes"].items():
        module = model.get_submodule(name)
        for key, value in attributes.items():
            if type(getattr(module, key)) not in (int, tuple):
                raise ValueError(f"{name}.{key} is not a size")
            setattr(module, key, tuple(value) if isinstance(value, list) else value)
    weights = safetensors.torch.load(data)
    persistent = model.state_dict().keys()
    if weights.keys() != {name for name in tensors if name in persistent}:
        raise ValueError("weights.safetensors is of another network")
    for name, value in weights.items():
        if value.shape != tensors[name].shape:
            raise ValueError(f"{name} has shape {list(value.shape)}, expected {list(tensors[name].shape)}")
        tensors[name].data.copy_(value)
    return model
