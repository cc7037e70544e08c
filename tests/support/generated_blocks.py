"""Blocks of generated networks: small modules with a readable repr that know what must be removable in them.

Every block maps ``(N, inputs, *space)`` to ``(N, outputs, *space)`` and tells in ``flow`` which layers make its
channels and what ties or holds them, at the granularity of layers. `generated_networks.py` draws networks of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Made = tuple[Tensor, int]  # a weight and the axis of it that makes channels
Stream = frozenset[int]  # numbers of the weights that make the channels of one activation

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@dataclass
class Flow:
    """Which weights make channels, and which of them must be removable.

    It knows whole weights only: what a pin may reach through a tie is not demanded, never the other way round.
    """

    made: list[Made] = field(default_factory=list)
    ties: list[Stream] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    pieces: dict[int, int] = field(default_factory=dict)
    shuffled: set[int] = field(default_factory=set)

    def new(self, weight: Tensor, axis: int = 0) -> Stream:
        """Return the channels that ``weight`` makes; a weight that was used before makes the same ones again."""
        for number, (known, _) in enumerate(self.made):
            if known is weight:
                return frozenset([number])
        self.made.append((weight, axis))
        return frozenset([len(self.made) - 1])

    def tie(self, *streams: Stream) -> Stream:
        """Let channels meet, e.g. in a sum; where some were shuffled, a few ties may reach all of them."""
        together = frozenset().union(*streams)
        self.ties.append(together)
        return self.hold(together) if len(streams) > 1 and together & self.shuffled else together

    def hold(self, stream: Stream) -> Stream:
        """Do not demand that these channels can be removed: what they meet forbids it, or may."""
        self.held |= stream
        return stream

    def split(self, stream: Stream, pieces: int) -> Stream:
        """Let only equal pieces lose channels together; boundaries between several layers may leave odd units."""
        self.pieces |= {n: self.pieces.get(n, 1) * pieces for n in stream}
        odd = any(self.size(n) % self.pieces[n] for n in stream & self.shuffled)  # its ties may reach all channels
        if len(stream) > 1 or odd:
            self.hold(stream)
        return self.tie(stream)

    def join(self, *streams: Stream) -> Stream:
        """Put channels behind each other; what meets itself shuffled later may be tied as a whole."""
        for number, stream in enumerate(streams):
            others = frozenset().union(*streams[:number], *streams[number + 1 :])
            self.hold(stream & others & self.shuffled)
        return frozenset().union(*streams)

    def size(self, number: int) -> int:
        """Return how many channels a weight makes."""
        weight, axis = self.made[number]
        return weight.shape[axis]

    def demanded(self) -> list[Made]:
        """Return the weights all of whose channels must belong to groups."""
        few = {n for n in range(len(self.made)) if self.size(n) < 2 * self.pieces.get(n, 1)}
        stuck, reached = self.held | few, -1
        while reached != len(stuck):
            reached = len(stuck)
            stuck = stuck.union(*(tied for tied in self.ties if tied & stuck))
        return [made for n, made in enumerate(self.made) if n not in stuck]


class Block(nn.Module):
    """A module that remembers the call that made it."""

    code: str
    outputs: int

    def __new__(cls, *args: Any) -> Block:
        self = super().__new__(cls)
        self.__dict__["code"] = f"{cls.__name__}({', '.join(map(repr, args))})"
        return self

    def __repr__(self) -> str:
        return self.code

    def flow(self, flow: Flow, x: Stream) -> Stream:
        """Return what the output's channels are, given the input's."""
        raise NotImplementedError


class Chain(Block):
    """Blocks one behind the other."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.blocks, self.outputs = nn.ModuleList(blocks), blocks[-1].outputs

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def flow(self, flow: Flow, x: Stream) -> Stream:
        for block in self.blocks:
            x = block.flow(flow, x)
        return x


class ChannelLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


NORMS = ("batch", "batch", "batch plain", "instance", "instance plain", "group each", "group", "layer", "", "")
FREE_NORMS = NORMS[:6] + NORMS[8:]


def norm_of(name: str, dims: int, channels: int) -> nn.Module:
    if name.startswith("batch"):
        return BATCH[dims](channels, affine=name == "batch")
    if name.startswith("instance"):
        return INSTANCE[dims](channels, affine=name == "instance")
    if name == "layer":
        return ChannelLayerNorm(channels)
    halves = 2 - channels % 2
    return nn.GroupNorm(channels if name == "group each" else halves, channels) if name else nn.Identity()


ACTIVATIONS = ("relu", "relu in place", "prelu", "prelu each", "silu", "gelu", "leaky", "hardswish", "self gate", "")


class SelfGate(nn.Module):
    """``x * sigmoid(1.7 x)`` written out."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.7 * x)


def activation_of(name: str, channels: int) -> nn.Module:
    return {
        "relu": nn.ReLU(),
        "relu in place": nn.ReLU(inplace=True),
        "prelu": nn.PReLU(),
        "prelu each": nn.PReLU(channels),
        "silu": nn.SiLU(),
        "gelu": nn.GELU(),
        "leaky": nn.LeakyReLU(0.1),
        "hardswish": nn.Hardswish(),
        "self gate": SelfGate(),
        "": nn.Identity(),
    }[name]


class Conv(Block):
    """Dense, depthwise (any multiplier) or grouped convolution with norm and activation."""

    def __init__(self, dims: int, i: int, o: int, kernel: int, stride: int, groups: int, norm: str, act: str) -> None:
        super().__init__()
        self.outputs, self.kind = o, norm
        self.conv = CONV[dims](i, o, kernel, stride, kernel // 2, groups=groups, bias="batch" not in norm)
        self.norm, self.act = norm_of(norm, dims, o), activation_of(act, o)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        groups = self.conv.groups
        if groups == 1 or groups < self.conv.in_channels:
            flow.split(x, groups)
            x = flow.split(flow.new(self.conv.weight), groups) if groups > 1 else flow.new(self.conv.weight)
        return flow.hold(x) if self.kind in ("group", "layer") else x


class Transposed(Block):
    """Twice the size."""

    def __init__(self, dims: int, i: int, o: int, groups: int) -> None:
        super().__init__()
        self.outputs = o
        self.conv = TRANSPOSED[dims](i, o, 2, 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        if self.conv.groups > 1:
            flow.hold(x)
            return flow.hold(flow.new(self.conv.weight, 0))
        return flow.new(self.conv.weight, 1)


class Subpixel(Block):
    """Twice the size by a pixel shuffle of four times the channels."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.outputs, self.conv, self.shuffle = o, nn.Conv2d(i, 4 * o, 1), nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.conv(x))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.split(flow.new(self.conv.weight), 4)


class Unshuffle(Block):
    """Half the size with four times the channels, then a convolution."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.outputs, self.shuffle, self.conv = o, nn.PixelUnshuffle(2), nn.Conv2d(4 * i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.shuffle(x))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.new(self.conv.weight)


class Spatial(Block):
    """What only moves or combines places; ``how`` is a key of `SPATIAL`."""

    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.outputs, self.how = channels, how

    def forward(self, x: Tensor) -> Tensor:
        return SPATIAL[self.how](x)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return x


def _pool(x: Tensor, name: str, *args: int) -> Tensor:
    return getattr(F, f"{name}{x.ndim - 2}d")(x, *args)


SPATIAL = {
    "max pool": lambda x: _pool(x, "max_pool", 3, 1, 1),
    "average pool": lambda x: _pool(x, "avg_pool", 3, 1, 1),
    "roll": lambda x: x.roll(1, -1),
    "flip": lambda x: x.flip(-1),
    "pad and crop": lambda x: F.pad(x, (2, 1))[..., 1:-2],
    "circular pad and crop": lambda x: (
        F.pad(x, (1, 1) * (x.ndim - 2), mode="circular")[..., 2:, :][..., :-2] if x.ndim == 4 else x
    ),
    "halves swapped": lambda x: torch.cat(x.chunk(2, -1)[::-1], -1),
    "up and down": lambda x: _pool(F.interpolate(x, scale_factor=2), "avg_pool", 2),
    "linear up and down": lambda x: F.interpolate(
        F.interpolate(x, size=[9] * (x.ndim - 2), mode=[0, 0, 0, "linear", "bilinear", "trilinear"][x.ndim]),
        size=tuple(x.shape[2:]),
    ),
    "softmax of places": lambda x: x.flatten(2).softmax(-1).reshape(x.shape) * x.shape[-1],
    "centred": lambda x: x - x.mean(dim=tuple(range(2, x.ndim)), keepdim=True),
    "standardised": lambda x: x / (1 + x.flatten(2).var(-1).sqrt().reshape(*x.shape[:2], *[1] * (x.ndim - 2))),
    "permuted and back": lambda x: x.movedim(1, -1).contiguous().tanh().movedim(-1, 1) + x,
    "no gradient": lambda x: x * _detached(x),
    "in place": lambda x: x.neg().mul_(0.5).add_(1.0).clamp_(-2, 2),
    "where": lambda x: torch.where(x > 0, x, 0.3 * x.square()),
    "first place written": lambda x: _written(x.clone()),
    "dropout": lambda x: F.dropout(x, 0.3, training=False),
}


def _detached(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.sigmoid() * 2


def _written(x: Tensor) -> Tensor:
    x[..., 0] = 0.5 * x[..., 1]
    return x


class Scale(Block):
    """A raw parameter or buffer for each channel or for all: LayerScale, fixed means and deviations."""

    def __init__(self, dims: int, channels: int, shape: str, buffer: bool) -> None:
        super().__init__()
        sizes = {"(C, 1, 1)": (channels, *[1] * dims), "(1, C, 1, 1)": (1, channels, *[1] * dims), "()": ()}[shape]
        self.outputs, self.dims = channels, dims
        if buffer:
            self.register_buffer("gain", torch.rand(sizes) + 0.5, persistent=shape != "()")
        else:
            self.gain = nn.Parameter(torch.rand(sizes) + 0.5)
        self.shift = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.shift.reshape(-1, *[1] * self.dims)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return x


class Functional(Block):
    """A convolution with raw parameters: by ``F.conv2d``, by a product with a matrix, or by an einsum."""

    def __init__(self, i: int, o: int, how: str) -> None:
        super().__init__()
        self.outputs, self.how = o, how
        sizes = (o, i, 3) if how == "einsum" else (o, i)
        self.kernel, self.bias = nn.Parameter(torch.randn(sizes)), nn.Parameter(torch.randn(o))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "conv2d":
            return F.conv2d(x, self.kernel[:, :, None, None], self.bias)
        if self.how == "einsum":
            shifted = torch.stack([x.roll(1, -1), x, x.roll(-1, -1)], -1)
            return torch.einsum("oik,nihwk->nohw", self.kernel, shifted) + self.bias[:, None, None]
        return (x.movedim(1, -1) @ self.kernel.t() + self.bias).movedim(-1, 1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        made = flow.new(self.kernel)
        if self.how == "matmul":
            return made
        flow.hold(x)
        return flow.hold(made)
