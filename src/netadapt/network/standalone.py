"""Rebuild the network of this folder from its own class, with torch and safetensors only (written by netadapt).

from load import load
model = load(MyNet())
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def load(model: nn.Module, folder: Path = Path(__file__).parent) -> nn.Module:
    """Cut ``model`` in place as architecture.json says, fill in the weights, and return it."""
    plan = json.loads((folder / "architecture.json").read_text())
    data = (folder / "weights.safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != plan["weights"]["sha256"]:
        raise ValueError("weights.safetensors does not belong to architecture.json")
    for name in plan.get("without", []):
        leave_out(model, name)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, cut in plan["tensors"].items():
        if list(tensors[name].shape) != cut["shape"]:
            raise ValueError(f"{name} has shape {list(tensors[name].shape)}, expected {cut['shape']}")
        for axis, keep in cut["keep"].items():
            where = torch.tensor(keep, device=tensors[name].device)
            tensors[name].data = tensors[name].data.index_select(int(axis), where)
    for name, attributes in plan["attributes"].items():
        set_sizes(model.get_submodule(name), attributes)
    weights = safetensors.torch.load(data)
    persistent = model.state_dict().keys()
    if weights.keys() != {name for name in tensors if name in persistent}:
        raise ValueError("weights.safetensors is of another network")
    for name, value in weights.items():
        if value.shape != tensors[name].shape:
            raise ValueError(f"{name} has shape {list(value.shape)}, expected {list(tensors[name].shape)}")
        tensors[name].data.copy_(value)
    return model


def leave_out(model: nn.Module, block: str) -> None:
    """Put an identity in the place of a block that is gone, in place."""
    parent, _, child = block.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.Identity().train(model.training))


def set_sizes(module: nn.Module, sizes: Mapping[str, int | tuple[int, ...] | list[int]]) -> None:
    """Set attributes of a module that lost channels; attention that lost heads computes its sizes anew."""
    for key, value in sizes.items():
        kind = type(getattr(module, key, None))
        if kind not in (int, tuple, list):
            raise ValueError(f"{type(module).__name__}.{key} is not a size; give the class that the run started from")
        setattr(module, key, value if isinstance(value, int) else kind(value))
    if sizes and type(module) is nn.MultiheadAttention:
        module.__class__ = FewerHeads


class FewerHeads(nn.MultiheadAttention):
    """The same attention with any number of heads: its heads' size follows from the weights, not from ``embed_dim``."""

    # TransformerEncoderLayer looks at this to choose a fused kernel, which takes the size of a head from ``embed_dim``
    _qkv_same_embed_dim = property(lambda self: False)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Do as `torch.nn.MultiheadAttention` does."""
        single, first = query.dim() == 2, self.batch_first and query.dim() == 3
        q, k, v = (
            x if first else x.unsqueeze(0) if single else x.transpose(0, 1) for x in self._projected(query, key, value)
        )
        q, k, v = (x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (q, *self._extended(k, v)))
        mask = self._mask(q, k, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            x = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights.squeeze(0) if single else weights
        else:
            x = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        x = self.out_proj(x.transpose(1, 2).flatten(2))
        return x if first else x.squeeze(0) if single else x.transpose(0, 1), weights

    def _projected(self, *inputs: Tensor) -> list[Tensor]:
        """Return queries, keys and values, in the layout of the inputs."""
        if self.in_proj_weight is None:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        else:
            matrices = self.in_proj_weight.chunk(3)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, matrix, bias) for x, matrix, bias in zip(inputs, matrices, biases, strict=True)]

    def _extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append the learnt key and value, and a zero one, if the module has them; ``(batch, length, features)``."""
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat([x, more.expand(len(x), -1, -1)], 1) for x, more in ((k, self.bias_k), (v, self.bias_v)))
        return (F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))) if self.add_zero_attn else (k, v)

    def _mask(self, q: Tensor, k: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
        """Return both masks as one that is added to the scores ``(batch, heads, queries, keys)``."""
        total = None
        if padding is not None:
            padding = padding if padding.dim() == 2 else padding.unsqueeze(0)
        views = (mask if mask is None or mask.dim() == 2 else mask.view(-1, self.num_heads, *mask.shape[1:]), padding)
        for given in (views[0], None if views[1] is None else views[1][:, None, None]):
            if given is None:
                continue
            if given.dtype == torch.bool:
                given = torch.zeros_like(given, dtype=q.dtype).masked_fill(given, float("-inf"))
            given = F.pad(given, (0, k.shape[-2] - given.shape[-1]))
            total = given if total is None else total + given
        return total
