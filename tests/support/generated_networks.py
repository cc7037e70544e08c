"""Random small networks: `generate(seed)` draws one whose repr is the code that builds it again.

`tests/network/test_generated.py` checks on them that what netadapt removes is exact and that it removes what it can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import generated_blocks as blocks
import generated_paths as paths
import generated_tokens as tokens
import torch
import torch.nn.functional as F
from generated_blocks import CONV, Block, Chain, Conv, Flow, Stream
from torch import Tensor, nn

WIDTHS = (4, 6, 8, 10, 12)


class Head(nn.Module):
    """Ends a network; ``how`` is one of `HEADS`."""

    def __init__(self, dims: int, channels: int, places: int, hidden: int, how: str) -> None:
        super().__init__()
        self.code = f"Head({dims}, {channels}, {places}, {hidden}, {how!r})"
        self.how = how
        features = channels * places if how in ("flat", "view") else channels
        if how == "map":
            self.into, self.out = CONV[dims](channels, hidden, 1), CONV[dims](hidden, 3, 1)
        else:
            self.into, self.out = nn.Linear(features, hidden), nn.Linear(hidden, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        if self.how == "flat":
            x = x.flatten(1)
        elif self.how == "view":
            x = x.contiguous().view(x.shape[0], -1)
        elif self.how == "tokens":
            x = x.flatten(2).transpose(1, 2)
        elif self.how == "squeezed":
            x = x.mean(tuple(range(2, x.ndim)), keepdim=True).squeeze()
        elif self.how != "map":
            x = x.mean(tuple(range(2, x.ndim)))
        hidden = self.drop(F.silu(self.into(x)))  # no relu: a head whose hidden units are all dead sees no removal
        out = self.out(hidden)
        if self.how == "pairs":
            return out, [out.softmax(1), hidden[:, :1]]
        return {"logits": out, "score": out.mean()} if self.how == "dictionary" else out

    def flow(self, flow: Flow, x: Stream) -> None:
        hidden = flow.new(self.into.weight)
        flow.hold(flow.new(self.out.weight))
        if self.how == "pairs":
            flow.hold(hidden)


HEADS = ("pooled", "pooled", "flat", "flat", "view", "map", "pairs", "dictionary", "tokens", "squeezed")


class Net(nn.Module):
    """A stem, blocks and a head; with ``second`` it takes a second image, added behind the stem."""

    def __init__(self, stem: Block, body: Block, head: Head, second: Block | None) -> None:
        super().__init__()
        self.stem, self.body, self.head, self.second = stem, body, head, second

    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        x = self.stem(x)
        if self.second is not None:
            x = x + self.second(other)
        return self.head(self.body(x))

    def flow(self) -> Flow:
        """Return which weights make channels, what ties and what holds them."""
        flow = Flow()
        x = self.stem.flow(flow, frozenset())
        if self.second is not None:
            x = flow.tie(x, self.second.flow(flow, frozenset()))
        self.head.flow(flow, self.body.flow(flow, x))
        return flow

    def __repr__(self) -> str:
        parts = [repr(self.stem), *map(repr, self.body.blocks), self.head.code, f"second={self.second!r}"]
        return "Net(\n  " + "\n  ".join(parts) + "\n)"


class Draw:
    """Draws blocks; ``size`` is the extent of every space dimension where a block stands."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.dims = self.rng.choices((1, 2, 3), (2, 9, 1))[0]
        self.size = {1: 12, 2: 8, 3: 4}[self.dims]

    def one(self, choices: Sequence[Any]) -> Any:
        return self.rng.choice(choices)

    def flip(self) -> bool:
        return self.rng.random() < 0.5

    def conv(self, i: int, o: int, *, stride: int = 1) -> Block:
        """A dense convolution with any norm and activation."""
        kernel = self.one((1, 3)) if stride == 1 else 3
        norms = blocks.NORMS if self.rng.random() < 0.3 else blocks.FREE_NORMS
        return Conv(self.dims, i, o, kernel, stride, 1, self.one(norms), self.one(blocks.ACTIVATIONS))

    def depthwise(self, i: int) -> Block:
        multiplier = self.one((1, 1, 2, 3))
        norm, act = self.one(blocks.FREE_NORMS), self.one(blocks.ACTIVATIONS)
        return Conv(self.dims, i, i * multiplier, 3, 1, i, norm, act)

    def grouped(self, i: int, o: int) -> Block:
        groups = self.one([g for g in (2, 3, 4) if i % g == 0 and o % g == 0 and g < i] or [1])
        return Conv(self.dims, i, o, 3, 1, groups, self.one(blocks.FREE_NORMS), self.one(blocks.ACTIVATIONS))

    def inner(self, i: int, o: int | None = None, depth: int = 0) -> Block:
        """Some blocks one behind the other that keep the size; they end with ``o`` channels if it is given."""
        parts = [self.block(i, depth + 1)]
        if self.flip():
            parts.append(self.block(parts[-1].outputs, depth + 1))
        if o is not None and (parts[-1].outputs != o or self.flip()):
            parts.append(self.conv(parts[-1].outputs, o))
        return Chain(*parts) if len(parts) > 1 else parts[0]

    def block(self, i: int, depth: int) -> Block:
        """A block that keeps the size."""
        plain = self.rng.random() < 0.25 * depth or depth > 2
        return self.one(PLAIN if plain else ANY)(self, i, depth)

    def resized(self, i: int) -> Block:
        """A block that halves or doubles the size."""
        o = self.one(WIDTHS)
        if self.size >= 4 and (self.size > 8 or self.rng.random() < 0.7):
            self.size //= 2
            return blocks.Unshuffle(i, o) if self.dims == 2 and self.flip() else self.conv(i, o, stride=2)
        self.size *= 2
        return self.upward(i, o)

    def upward(self, i: int, o: int) -> Block:
        """A block that doubles the size."""
        if self.dims == 2 and self.rng.random() < 0.3:
            return blocks.Subpixel(i, o)
        if self.rng.random() < 0.3:
            return paths.Resize(i)
        groups = 2 if i % 2 == o % 2 == 0 and self.rng.random() < 0.2 else 1
        return blocks.Transposed(self.dims, i, o, groups)

    def wide(self) -> int:
        return int(self.one(WIDTHS))


def _halves(d: Draw, i: int, depth: int) -> Block:
    if i % 2:
        return d.conv(i, d.wide())
    left = paths.Same(i // 2) if d.flip() else d.inner(i // 2, None, depth)
    return paths.Halves(i, left, d.inner(i // 2, d.one((None, i // 2)), depth), d.one(paths.HALVES))


def _shuffle(d: Draw, i: int, depth: int) -> Block:
    groups = [g for g in (2, 3, 4) if i % g == 0] or [1]
    hows = ("sizes", "sizes", "constant", "torch") if d.dims == 2 else ("sizes", "sizes", "constant")
    return paths.Shuffle(i, d.one(groups), d.one(hows))


def _attention(d: Draw, i: int, depth: int) -> Block:
    norm = d.flip()
    if i % 2 == 0 and d.rng.random() < 0.3:
        return tokens.ModuleAttention(i, 2, norm)
    if d.flip():
        return tokens.OwnAttention(i, d.one((2, 3)), d.one((3, 4)), d.one(("fused", "matmul", "linear")), norm)
    return tokens.SeparateAttention(i, d.one((2, 3)), d.one((3, 4)), d.one((4, 5)), norm)


def _conv_next(d: Draw, i: int, depth: int) -> Block:
    return tokens.ConvNext(i, d.wide(), d.flip()) if d.dims == 2 else d.depthwise(i)


def _functional(d: Draw, i: int, depth: int) -> Block:
    return blocks.Functional(i, d.wide(), d.one(("conv2d", "matmul", "einsum")) if d.dims == 2 else "matmul")


def _unet(d: Draw, i: int, depth: int) -> Block:
    if d.size < 4:
        return d.conv(i, d.wide())
    d.size //= 2
    inner = d.inner(i, None, depth)
    d.size *= 2
    return paths.Unet(inner, d.upward(inner.outputs, d.wide()), i)


Make = Callable[[Draw, int, int], Block]

PLAIN: list[Make] = [
    lambda d, i, depth: d.conv(i, d.wide()),
    lambda d, i, depth: d.conv(i, d.wide()),
    lambda d, i, depth: d.conv(i, d.wide()),
    lambda d, i, depth: d.depthwise(i),
    lambda d, i, depth: d.grouped(i, d.one((6, 8, 12))),
    lambda d, i, depth: blocks.Spatial(i, d.one(list(blocks.SPATIAL))),
    lambda d, i, depth: blocks.Scale(d.dims, i, d.one(("(C, 1, 1)", "(1, C, 1, 1)", "()")), d.flip()),
    _functional,
    _shuffle,
    lambda d, i, depth: paths.Repeated(i, d.one(("crelu", "repeat", "interleave"))) if i < 20 else d.conv(i, 8),
    lambda d, i, depth: paths.Maxout(i, d.one(("chunk", "reshape"))) if i % 4 == 0 else d.conv(i, 8),
    lambda d, i, depth: paths.Gated(d.dims, i, d.wide(), d.one(("chunk", "chunk", "glu", "stride"))),
    lambda d, i, depth: paths.SqueezeExcite(d.dims, i, d.one((3, 4, 6)), d.flip()),
    lambda d, i, depth: paths.Tied(d.dims, i, d.wide()),
    _conv_next,
    lambda d, i, depth: tokens.Mlp(i, d.wide(), d.flip(), d.flip()),
]
ANY: list[Make] = [
    *PLAIN,
    *[lambda d, i, depth: paths.Residual(d.dims, i, d.inner(i, i, depth), d.one(paths.RESIDUAL))] * 3,
    lambda d, i, depth: paths.Residual(d.dims, i, d.inner(i, None, depth), d.one(paths.RESIDUAL)),
    *[lambda d, i, depth: paths.Dense(i, d.inner(i, None, depth)) if i < 24 else d.conv(i, 8)] * 2,
    lambda d, i, depth: paths.Inception(*(d.inner(i, None, depth) for _ in range(d.one((2, 3))))),
    *[_halves] * 2,
    lambda d, i, depth: paths.Twice(d.inner(i, i, depth)),
    lambda d, i, depth: paths.Frozen(d.inner(i, None, depth)),
    lambda d, i, depth: paths.Assembled(d.inner(i, None, depth), d.conv(i, d.wide())),
    _unet,
    _attention,
    lambda d, i, depth: paths.SpatialGate(d.dims, i),
    lambda d, i, depth: paths.Backwards(i, d.wide()),
    lambda d, i, depth: paths.Auxiliary(i),
    lambda d, i, depth: tokens.Mixer(i, d.size**d.dims, d.wide(), d.flip()),
    lambda d, i, depth: tokens.Positions(i, (d.size,) * d.dims, d.flip()),
]


def generate(seed: int) -> tuple[Net, Any]:
    """Return a network in double precision with random weights and statistics, in eval mode, and example inputs."""
    draw = Draw(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, images = _draw_net(draw)
        return enliven(net.double()).eval(), _arguments(draw, images)


def _draw_net(d: Draw) -> tuple[Net, list[Tensor]]:
    shape, width = (2, 3, *[d.size] * d.dims), d.wide()
    stem = d.conv(3, width)
    second = d.conv(3, width) if d.rng.random() < 0.15 else None
    parts: list[Block] = []
    for _ in range(d.rng.randint(1, 4)):
        i = parts[-1].outputs if parts else width
        i = i if i <= 32 else parts.append(d.conv(i, 12)) or 12
        resize = d.rng.random() < 0.2 and d.dims < 3
        parts.append(d.resized(i) if resize else d.block(i, 0))
    places = d.size**d.dims
    head = Head(d.dims, parts[-1].outputs, places, d.wide(), d.one(HEADS))
    images = [torch.randn(shape, dtype=torch.float64) for _ in range(1 if second is None else 2)]
    return Net(stem, Chain(*parts), head, second), images


def _arguments(d: Draw, images: list[Tensor]) -> Any:
    if d.rng.random() < 0.2:
        return dict(zip(("x", "other"), images, strict=False))
    return images[0] if len(images) == 1 else tuple(images)


def enliven(net: Net) -> Net:
    """Give all weights and statistics values that keep signals alive and channels distinguishable, in place."""
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            scale, shift = (1.5 / fan_in**0.5, 0.0) if fan_in > 1 else (0.3, 0.5)
            parameter.copy_(torch.randn_like(parameter) * scale + shift)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return net
