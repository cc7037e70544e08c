"""The records that describe a network: channel groups, what is pinned, layers as functions of the widths.

Built by `groups.py` and `algebra.py` from one trace; read by everybody else. No tensors of the model are kept here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Role = Literal["output", "input", "elementwise"]
Kind = Literal["conv", "depthwise", "grouped", "linear", "product", "norm", "elementwise", "pool", "other"]


@dataclass(frozen=True)
class AxisUse:
    """The entries of one axis of one parameter or buffer that belong to the units of a group.

    Attributes:
        tensor: qualified name, e.g. ``features.3.0.weight``.
        axis: which axis of it.
        indices: ``(width, entries_per_unit)``; row ``u`` lists the entries that go with unit ``u``.
        role: ``output`` (rows of a dense contraction: the unit is computed here), ``input`` (a contraction
            sums over it: the unit is consumed here), ``elementwise`` (norms, depthwise, biases, buffers).
    """

    tensor: str
    axis: int
    indices: NDArray[np.int64]
    role: Role


@dataclass(frozen=True)
class ChannelGroup:
    """Channels of several layers that can only be removed together (the paper's "layer to simplify").

    Attributes:
        name: the first layer that produces the units, in order of execution.
        width: number of units in the original network.
        layers: qualified names of all modules touched, in order of execution.
        axes: every axis of every parameter and buffer that the units live on.
        minimum: smallest width that may be kept.
        multiple: widths must be a multiple of this where structure demands it (1: free).
        inexact: why the removal of a unit changes the values of those that stay, with the source line: a norm takes
            its statistics over them, say. Empty for an exact group, and always where the trace was told ``exact``.
        block: the residual block that is gone, with all that is in it, when no unit is left, so that the width may be
            0 (`blocks.py`); empty where there is none, and always unless the trace was told ``blocks``.
    """

    name: str
    width: int
    layers: tuple[str, ...]
    axes: tuple[AxisUse, ...]
    minimum: int = 1
    multiple: int = 1
    inexact: str = ""
    block: str = ""

    @property
    def narrowest(self) -> int:
        """The smallest width that means something: 0 where a whole block can go."""
        return 0 if self.block else 1

    @property
    def channels(self) -> int:
        """How many channels a unit is in the widest layer that computes it: 1, or a block such as an attention head."""
        return max((use.indices.shape[1] for use in self.axes if use.role == "output"), default=1)

    def grid(self, multiple: int, minimum: int) -> tuple[int, int]:
        """Return the step of the widths that a search may choose, and the smallest of them.

        Args:
            multiple: of how many *channels*; a unit that is a block of 64 of them is a multiple of 8 already, one of
                2 needs 4 units. The group's own ``multiple`` of units holds besides.
            minimum: smallest number of channels; the group's own ``minimum`` of units holds besides.
        """
        step = math.lcm(multiple // math.gcd(multiple, self.channels), self.multiple)
        least = max(-(-minimum // self.channels), self.minimum, 1)
        return step, -(-least // step) * step


@dataclass(frozen=True)
class Pinned:
    """A layer some of whose channels cannot be removed, and why.

    Attributes:
        layer: qualified module name.
        reason: one clause for the user.
        where: the source line that it comes from, as ``file.py:41``; empty if there is none, or it is unknown.
        statistic: whether that is a statistic over channels: ``trace(exact=False)`` may offer them.
    """

    layer: str
    reason: str
    where: str = ""
    statistic: bool = False

    @property
    def text(self) -> str:
        """The reason with its source line."""
        return f"{self.reason} ({self.where})" if self.where else self.reason


@dataclass(frozen=True)
class LinearForm:
    """An integer count as a function of the widths: ``constant + coefficients . widths``.

    Attributes:
        constant: the part that no group can change.
        coefficients: ``(groups,)``.
    """

    constant: int
    coefficients: NDArray[np.int64]

    def __call__(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Evaluate at ``widths`` of shape ``(..., groups)``; returns shape ``(...)``."""
        return widths @ self.coefficients + self.constant


@dataclass(frozen=True)
class Layer:
    """One operation that costs something, with its channel counts as functions of the widths.

    Attributes:
        name: qualified module name, ``#2`` appended to its second call, and so on.
        kind: which cost model fits.
        operation: ATen name, e.g. ``conv2d``.
        kernel, stride: spatial sizes, ``(1, 1)`` for linear; ``()`` where it has no meaning.
        input_size, output_size: spatial sizes (H, W), ``(1, 1)`` for linear on flat features.
        batch: images per call (further leading dimensions are multiplied in).
        inputs, outputs: channels in and out.
        fan_in: multiply-accumulates per output element divided by kernel area: channels summed over by one output
            (inputs for dense layers, 1 for depthwise); a zero form for layers without MACs.
        gate: column of the group without which the residual block that the layer is in is gone; ``None`` for none.
    """

    name: str
    kind: Kind
    operation: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    batch: int
    inputs: LinearForm
    outputs: LinearForm
    fan_in: LinearForm
    gate: int | None = None

    def there(self, widths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell whether the layer is there at all at ``widths`` of shape ``(m, groups)``; returns shape ``(m,)``."""
        return np.ones(len(widths), dtype=bool) if self.gate is None else widths[:, self.gate] > 0

    def macs(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Multiply-accumulates at ``widths`` of shape ``(m, groups)``; returns shape ``(m,)``."""
        return self.outputs(widths) * self.fan_in(widths) * self.area * self.there(widths)

    @property
    def fixed(self) -> bool:
        """Whether no group can change how many multiply-accumulates this layer takes."""
        return self.gate is None and not (self.outputs.coefficients.any() or self.fan_in.coefficients.any())

    @property
    def area(self) -> int:
        """Multiply-accumulates per pair of channels: kernel x places where it is applied x batch."""
        places = self.input_size if self.operation.startswith("conv_transpose") else self.output_size
        return math.prod(self.kernel) * math.prod(places) * self.batch


@dataclass(frozen=True)
class ParameterCount:
    """Number of entries of one parameter as a function of the widths.

    Attributes:
        name: canonical qualified name.
        fixed: product of the sizes that no group can change.
        sizes: the other sizes, at most two (rows and columns of a contraction).
    """

    name: str
    fixed: int
    sizes: tuple[LinearForm, ...]


def within(name: str, blocks: Iterable[str]) -> bool:
    """Tell whether a module, parameter, buffer or layer is one of some blocks or in one."""
    path = name.partition("#")[0] + "."  # a layer's second call has a number
    return any(path.startswith(block + ".") for block in blocks)
