"""Blocks of generated networks that join, split, gate and reuse: most of them around other blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from generated_blocks import CONV, Block, Flow, Stream
from torch import Tensor, nn


class Residual(Block):
    """``x + inner(x)``, in one of several ways; a projection if the widths differ."""

    def __init__(self, dims: int, channels: int, inner: Block, how: str) -> None:
        super().__init__()
        self.inner, self.how, self.outputs = inner, how, inner.outputs
        self.project = nn.Identity() if inner.outputs == channels else CONV[dims](channels, inner.outputs, 1)
        if how == "highway":
            self.gate = CONV[dims](channels, inner.outputs, 1)
        if how == "scaled":
            self.gamma = nn.Parameter(torch.rand(inner.outputs, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        y, short = self.inner(x), self.project(x)
        if self.how == "in place":
            short = short.clone()
            short += y
            return short
        if self.how == "highway":
            gate = torch.sigmoid(self.gate(x))
            return gate * y + (1 - gate) * short
        if self.how == "scaled":
            return short + self.gamma * y
        if self.how == "maximum":
            return torch.maximum(short, y)
        if self.how == "stack":
            return torch.stack([short, y], 1).sum(1)
        return short + y if self.how == "sum" else short * y

    def flow(self, flow: Flow, x: Stream) -> Stream:
        y = self.inner.flow(flow, x)
        short = x if isinstance(self.project, nn.Identity) else flow.new(self.project.weight)
        gates = [flow.new(self.gate.weight)] if self.how == "highway" else []
        return flow.tie(y, short, *gates)


RESIDUAL = ("sum", "sum", "in place", "highway", "scaled", "maximum", "stack", "product")


class Dense(Block):
    """``cat([x, inner(x)])``."""

    def __init__(self, channels: int, inner: Block) -> None:
        super().__init__()
        self.inner, self.outputs = inner, channels + inner.outputs

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], 1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.join(x, self.inner.flow(flow, x))


class Inception(Block):
    """Several branches of the same input, concatenated."""

    def __init__(self, *branches: Block) -> None:
        super().__init__()
        self.branches, self.outputs = nn.ModuleList(branches), sum(b.outputs for b in branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.join(*(branch.flow(flow, x) for branch in self.branches))


class Halves(Block):
    """Each half of the channels goes its own way; ``how`` says how they are cut and joined."""

    def __init__(self, channels: int, left: Block, right: Block, how: str) -> None:
        super().__init__()
        self.left, self.right, self.how, self.half = left, right, how, channels // 2
        self.outputs = left.outputs + right.outputs

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "split":
            a, b = x.split(x.shape[1] // 2, dim=1)
        elif self.how == "reshape":
            a, b = x.unflatten(1, (2, -1)).unbind(1)
        elif self.how == "slice":
            a, b = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
        elif self.how == "constant":
            a, b = x[:, : self.half], x[:, self.half :]
        elif self.how == "sizes":
            a, b = x.split([self.half, x.shape[1] - self.half], 1)
        else:
            a, b = x.chunk(2, dim=1)
        return torch.cat([self.left(a), self.right(b)], 1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.split(x, 2)
        if self.how not in ("chunk", "split"):
            flow.hold(x)
        return flow.join(self.left.flow(flow, x), self.right.flow(flow, x))


HALVES = ("chunk", "chunk", "split", "reshape", "slice", "constant", "sizes")


class Same(Block):
    """The identity, as a path of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.outputs = channels

    def forward(self, x: Tensor) -> Tensor:
        return x

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return x


class Shuffle(Block):
    """Channel shuffle: sizes of the tensor, torch's own, or sizes that the module remembers."""

    def __init__(self, channels: int, groups: int, how: str) -> None:
        super().__init__()
        self.outputs, self.groups, self.how = channels, groups, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "torch":
            return F.channel_shuffle(x, self.groups)
        channels = self.outputs if self.how == "constant" else x.shape[1]
        parts = x.view(x.shape[0], self.groups, channels // self.groups, *x.shape[2:])
        return parts.transpose(1, 2).reshape(x.shape[0], channels, *x.shape[2:])

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.split(x, self.groups)
        flow.shuffled |= x
        return flow.hold(x) if self.how == "constant" else x


class Repeated(Block):
    """The same channels several times: ``cat([x, -x])``, ``repeat``, or interleaved."""

    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.outputs, self.how = 2 * channels, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "crelu":
            return torch.cat([x, -x], 1).relu()
        if self.how == "interleave":
            return x.repeat_interleave(2, dim=1)
        return x.repeat(1, 2, *[1] * (x.ndim - 2))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(x) if self.how == "interleave" else x


class Maxout(Block):
    """The larger of each channel of two halves."""

    def __init__(self, channels: int, how: str) -> None:
        super().__init__()
        self.outputs, self.how = channels // 2, how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "reshape":
            return x.reshape(x.shape[0], 2, x.shape[1] // 2, *x.shape[2:]).amax(1)
        return torch.maximum(*x.chunk(2, 1))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.split(x, 2)
        return flow.hold(x) if self.how == "reshape" else x


class Gated(Block):
    """GLU: half of the channels gate the other half."""

    def __init__(self, dims: int, i: int, o: int, how: str) -> None:
        super().__init__()
        self.outputs, self.how, self.conv = o, how, CONV[dims](i, 2 * o, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.how == "glu":
            return F.glu(x, 1)
        if self.how == "stride":
            return x[:, ::2] * torch.sigmoid(x[:, 1::2])
        a, b = x.chunk(2, 1)
        return a * F.gelu(b)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        made = flow.split(flow.new(self.conv.weight), 2)
        return made if self.how == "chunk" else flow.hold(made)


class SqueezeExcite(Block):
    """Channels scaled by a function of their means, with convolutions or with linear layers."""

    def __init__(self, dims: int, channels: int, hidden: int, linear: bool) -> None:
        super().__init__()
        self.outputs, self.linear = channels, linear
        layer = nn.Linear if linear else lambda i, o: CONV[dims](i, o, 1)
        self.down, self.up = layer(channels, hidden), layer(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        space = tuple(range(2, x.ndim))
        gate = self.up(F.relu(self.down(x.mean(space, keepdim=not self.linear)))).sigmoid()
        return x * gate.reshape(*x.shape[:2], *[1] * len(space))

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.new(self.down.weight)
        return flow.tie(x, flow.new(self.up.weight))


class SpatialGate(Block):
    """Places scaled by a function of the mean over channels: no channel can go."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.outputs, self.conv = channels, CONV[dims](2, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.conv(summary).sigmoid()

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(x)


class Twice(Block):
    """One block called two times."""

    def __init__(self, inner: Block) -> None:
        super().__init__()
        self.inner, self.outputs = inner, inner.outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x).tanh())

    def flow(self, flow: Flow, x: Stream) -> Stream:
        y = flow.tie(self.inner.flow(flow, x), x)
        return self.inner.flow(flow, y)


class Tied(Block):
    """Two layers with one weight and a bias each, behind each other or side by side."""

    def __init__(self, dims: int, i: int, o: int) -> None:
        super().__init__()
        self.outputs, self.a, self.b = o, CONV[dims](i, o, 1), CONV[dims](i, o, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) - self.b(x.relu())

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.new(self.a.weight)


class Backwards(Block):
    """A bottleneck whose way back is the transposed weight of the way in, as in a tied autoencoder."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.outputs, self.into = channels, nn.Linear(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.into(x.movedim(1, -1)).relu(), self.into.weight.t()).movedim(-1, 1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        flow.hold(flow.new(self.into.weight))
        return flow.hold(x)


class Frozen(Block):
    """A block that is not trained."""

    def __init__(self, inner: Block) -> None:
        super().__init__()
        self.inner, self.outputs = inner.requires_grad_(False), inner.outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return self.inner.flow(flow, x)


class Unet(Block):
    """Down, a block, up again, beside the input."""

    def __init__(self, inner: Block, up: Block, channels: int) -> None:
        super().__init__()
        self.inner, self.up, self.outputs = inner, up, channels + up.outputs

    def forward(self, x: Tensor) -> Tensor:
        down = F.interpolate(x, size=[s // 2 for s in x.shape[2:]])
        return torch.cat([self.up(self.inner(down)), x], 1)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.join(self.up.flow(flow, self.inner.flow(flow, x)), x)


class Resize(Block):
    """Twice the size, without weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.outputs, self.up = channels, nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return x


class Assembled(Block):
    """Two branches written into a tensor of zeros."""

    def __init__(self, left: Block, right: Block) -> None:
        super().__init__()
        self.left, self.right, self.outputs = left, right, left.outputs + right.outputs

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        out = x.new_zeros(x.shape[0], a.shape[1] + b.shape[1], *x.shape[2:])
        out[:, : a.shape[1]] = a
        out[:, a.shape[1] :] = b
        return out

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(flow.join(self.left.flow(flow, x), self.right.flow(flow, x)))


class Auxiliary(Block):
    """A head that is used in training only: what it reads must stay."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.outputs, self.head, self.last = channels, nn.Linear(channels, 3), None

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + 0.1 * self.head(x.movedim(1, -1)).sum()
        return x

    def flow(self, flow: Flow, x: Stream) -> Stream:
        return flow.hold(x)
