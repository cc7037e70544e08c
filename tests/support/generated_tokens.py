"""Blocks of generated networks that see an image as a sequence of tokens: attention, MLPs, mixers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from generated_blocks import Block, Flow, Stream
from torch import Tensor, nn


class Tokens(Block):
    """``x + part(norm(x))`` on tokens ``(N, T, C)``; parts implement ``mix``."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.outputs, self.norm = channels, nn.LayerNorm(channels) if norm else nn.Identity()

    def mix(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        t = t + self.mix(self.norm(t))
        return t.transpose(1, 2).reshape(x.shape)

    def joined(self, flow: Flow, x: Stream, *made: Stream) -> Stream:
        """Return the stream after the sum; a layer norm holds it."""
        x = flow.tie(x, *made)
        return flow.hold(x) if isinstance(self.norm, nn.LayerNorm) else x


class Mlp(Tokens):
    """Two linear layers; with a gate the first is twice as wide."""

    def __init__(self, channels: int, hidden: int, gate: bool, norm: bool) -> None:
        super().__init__(channels, norm)
        self.gate = gate
        self.into, self.out = nn.Linear(channels, hidden * (1 + gate)), nn.Linear(hidden, channels)

    def mix(self, t: Tensor) -> Tensor:
        t = self.into(t)
        if self.gate:
            value, gate = t.chunk(2, dim=-1)
            return self.out(value * F.silu(gate))
        return self.out(F.gelu(t))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        hidden = flow.new(self.into.weight)
        if self.gate:
            flow.split(hidden, 2)
        return self.joined(flow, x, flow.new(self.out.weight))


class Mixer(Tokens):
    """Two linear layers along the tokens."""

    def __init__(self, channels: int, tokens: int, hidden: int, norm: bool) -> None:
        super().__init__(channels, norm)
        self.into, self.out = nn.Linear(tokens, hidden), nn.Linear(hidden, tokens)

    def mix(self, t: Tensor) -> Tensor:
        return self.out(F.gelu(self.into(t.transpose(1, 2)))).transpose(1, 2)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.hold(flow.new(self.into.weight))
        return flow.hold(x)


class ModuleAttention(Tokens):
    """torch's own multi-head attention."""

    def __init__(self, channels: int, heads: int, norm: bool) -> None:
        super().__init__(channels, norm)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def mix(self, t: Tensor) -> Tensor:
        return self.attention(t, t, t, need_weights=False)[0]

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(self.joined(flow, x, flow.new(self.attention.out_proj.weight)))


class OwnAttention(Tokens):
    """Written by hand with one ``qkv`` layer; ``how`` is ``fused``, ``matmul`` or ``linear`` (without softmax)."""

    def __init__(self, channels: int, heads: int, size: int, how: str, norm: bool) -> None:
        super().__init__(channels, norm)
        self.heads, self.size, self.how = heads, size, how
        self.qkv, self.proj = nn.Linear(channels, 3 * heads * size), nn.Linear(heads * size, channels)

    def mix(self, t: Tensor) -> Tensor:
        n, length, _ = t.shape
        q, k, v = self.qkv(t).reshape(n, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        if self.how == "fused":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "matmul":
            y = (q @ k.transpose(-2, -1) * self.size**-0.5).softmax(-1) @ v
        else:
            y = F.elu(q) @ (F.elu(k).transpose(-2, -1) @ v) / length
        return self.proj(y.transpose(1, 2).reshape(n, length, -1))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.hold(flow.new(self.qkv.weight))
        return self.joined(flow, x, flow.new(self.proj.weight))


class SeparateAttention(Tokens):
    """Three layers for queries, keys and values; the size of a head follows from their outputs."""

    def __init__(self, channels: int, heads: int, size: int, values: int, norm: bool) -> None:
        super().__init__(channels, norm)
        self.heads = heads
        self.q, self.k = nn.Linear(channels, heads * size), nn.Linear(channels, heads * size, bias=False)
        self.v, self.proj = nn.Linear(channels, heads * values), nn.Linear(heads * values, channels)

    def mix(self, t: Tensor) -> Tensor:
        q, k, v = (f(t).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = torch.einsum("nhqc,nhkc->nhqk", q, k).mul(0.3).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        for layer in (self.q, self.k, self.v):
            flow.hold(flow.new(layer.weight))
        return self.joined(flow, x, flow.new(self.proj.weight))


class ConvNext(Block):
    """Depthwise convolution, layer norm and two linear layers on channels last, scaled, plus the input."""

    def __init__(self, channels: int, hidden: int, norm: bool) -> None:
        super().__init__()
        self.outputs = channels
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.into, self.out = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.gamma = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.out(F.gelu(self.into(y)))).permute(0, 3, 1, 2)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.new(self.into.weight)
        x = flow.tie(x, flow.new(self.out.weight))
        return flow.hold(x) if isinstance(self.norm, nn.LayerNorm) else x


class Positions(Block):
    """A learned embedding of every place, added to all channels alike or to each its own."""

    def __init__(self, channels: int, sizes: tuple[int, ...], each: bool) -> None:
        super().__init__()
        self.outputs, self.each = channels, each
        self.embedding = nn.Parameter(torch.randn(1, channels if each else 1, *sizes))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(x)
