"""Which isolated layers a layer table measures, as modules that a platform can compile, and how cells interpolate.

Layers of equal shape share one table. Used by `layer_table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netadapt.network.structure import Layer
from netadapt.resources.estimator import Values

_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Cell:
    """One isolated layer: what its latency depends on beside the platform.

    Attributes:
        linear: a linear layer, else a convolution.
        kernel, stride, input_size, output_size: spatial sizes.
        batch: images (for linear also tokens) per call.
        inputs, outputs: channels.
        groups: of the convolution.
    """

    linear: bool
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    batch: int
    inputs: int
    outputs: int
    groups: int

    def build(self) -> tuple[nn.Module, Tensor]:
        """Return the layer with small random weights, in eval mode, and an example input; torch's RNG is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.linear:
                return nn.Linear(self.inputs, self.outputs).eval(), torch.randn(self.batch, self.inputs)
            padding, size = zip(*map(_geometry, *self._sizes), strict=True)
            module = _CONVOLUTIONS[len(self.kernel)](
                self.inputs, self.outputs, self.kernel, self.stride, padding, groups=self.groups
            )  # fmt: skip
            return module.eval(), torch.randn(self.batch, self.inputs, *size)

    @property
    def _sizes(self) -> tuple[tuple[int, ...], ...]:
        return self.input_size, self.output_size, self.kernel, self.stride


def _geometry(size: int, wanted: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return padding and input size that give ``wanted`` outputs; the size changes by a pixel or two at most."""
    needed = (wanted - 1) * stride + kernel
    padding = -(-max(needed - size, 0) // 2)
    if (size + 2 * padding - kernel) // stride + 1 == wanted:
        return padding, size
    return padding, needed - 2 * padding


class Shape:
    """Layers of equal shape, and the grid of channel counts at which one of them is measured.

    Dense layers span inputs times outputs. Depthwise and grouped ones vary along one line: both counts together.

    Args:
        layers: the layers.
        counts: original channels in and out.
        grid: points per axis at most.
    """

    def __init__(self, layers: Sequence[Layer], counts: tuple[int, int], grid: int) -> None:
        self.layers = tuple(layers)
        self._counts = counts
        first = layers[0]
        self._line = first.kind in ("depthwise", "grouped")
        if self._line:
            self.axes: tuple[NDArray[np.int64], ...] = (self._line_points(grid),)
        else:
            varies = (np.any(first.inputs.coefficients), np.any(first.outputs.coefficients))
            self.axes = tuple(
                axis_points(count, grid) if free else np.array([count])
                for count, free in zip(counts, varies, strict=True)
            )

    def cells(self) -> list[Cell]:
        """Return the cells of the table in row-major order of `axes`."""
        if self._line:
            return [self._line_cell(int(outputs)) for outputs in self.axes[0]]
        return [self._cell(int(i), int(o), 1) for i in self.axes[0] for o in self.axes[1]]

    def interpolate(self, table: Values, widths: NDArray[np.int64]) -> Values:
        """Return the sum over the layers, ``(m,)``, linear between the points and constant beyond the smallest.

        Args:
            table: values of `cells`, in order.
            widths: ``(m, groups)``.
        """
        total = np.zeros(len(widths))
        for layer in self.layers:
            total += self._of(layer, table, widths)
        return total

    def by_layer(self, table: Values, widths: NDArray[np.int64]) -> dict[str, Values]:
        """Return what `interpolate` sums up, ``(m,)`` by the layer's name."""
        return {layer.name: self._of(layer, table, widths) for layer in self.layers}

    def _of(self, layer: Layer, table: Values, widths: NDArray[np.int64]) -> Values:
        outputs = layer.outputs(widths)
        if self._line:
            values = np.asarray(np.interp(outputs, self.axes[0], table))
        else:
            square = table.reshape(len(self.axes[0]), len(self.axes[1]))
            values = _bilinear(self.axes, square, layer.inputs(widths), outputs)
        return values * layer.there(widths)

    def _cell(self, inputs: int, outputs: int, groups: int) -> Cell:
        layer = self.layers[0]
        sizes = layer.kernel, layer.stride, layer.input_size, layer.output_size
        return Cell(layer.kind == "linear", *sizes, layer.batch, inputs, outputs, groups)

    def _line_points(self, grid: int) -> NDArray[np.int64]:
        """Return outputs that a grouped convolution can have: whole groups, or equally many channels in each."""
        step = self._counts[1] // self._groups if self._whole_groups else self._groups
        points = -(-axis_points(self._counts[1], grid + 1) // step) * step
        return np.unique(np.minimum(points, self._counts[1]))

    def _line_cell(self, outputs: int) -> Cell:
        inputs, whole = self._counts
        if self._whole_groups:
            groups = outputs * self._groups // whole
            return self._cell(groups * (inputs // self._groups), outputs, groups)
        per_group = max(round(inputs * outputs / whole / self._groups), 1)
        return self._cell(per_group * self._groups, outputs, self._groups)

    @property
    def _groups(self) -> int:
        return max(self._counts[0] // max(self._fan_in, 1), 1)

    @property
    def _fan_in(self) -> int:
        layer = self.layers[0]
        if self._whole_groups:
            return layer.fan_in.constant
        # Inputs and inputs per group are proportional forms: their ratio is the number of groups.
        ratio = int(layer.inputs.coefficients.max()) / max(int(layer.fan_in.coefficients.max()), 1)
        return round(self._counts[0] / ratio)

    @property
    def _whole_groups(self) -> bool:
        """Whether groups are removed whole, so that each keeps its inputs (always so for depthwise)."""
        return not np.any(self.layers[0].fan_in.coefficients)


def axis_points(count: int, grid: int) -> NDArray[np.int64]:
    """Return at most ``grid`` channel counts, geometric, multiples of 8, the largest ``count`` itself."""
    points = np.round(np.geomspace(min(8, count), count, grid) / 8).astype(np.int64) * 8
    return np.unique([*np.clip(points, min(8, count), count)[:-1], count])


def _bilinear(axes: tuple[NDArray[np.int64], ...], table: Values, *positions: NDArray[np.int64]) -> Values:
    low, share = zip(*map(_locate, axes, positions), strict=True)
    high = [np.minimum(index + 1, len(axis) - 1) for index, axis in zip(low, axes, strict=True)]
    first = table[low[0], low[1]] * (1 - share[1]) + table[low[0], high[1]] * share[1]
    second = table[high[0], low[1]] * (1 - share[1]) + table[high[0], high[1]] * share[1]
    return np.asarray(first * (1 - share[0]) + second * share[0])


def _locate(axis: NDArray[np.int64], position: NDArray[np.int64]) -> tuple[NDArray[np.int64], Values]:
    """Return the point below each position, and how far it lies towards the next one."""
    inside = np.clip(position, axis[0], axis[-1])
    index = np.clip(np.searchsorted(axis, inside, side="right") - 1, 0, max(len(axis) - 2, 0))
    width = axis[np.minimum(index + 1, len(axis) - 1)] - axis[index]
    return index, (inside - axis[index]) / np.maximum(width, 1)


def shapes_of(layers: Sequence[Layer], original: NDArray[np.int64], grid: int) -> tuple[list[Shape], list[Layer]]:
    """Return the shapes of all layers that can be isolated, and the layers with MACs that cannot."""
    found: dict[Any, list[Layer]] = {}
    others = []
    for layer in layers:
        if not (layer.fan_in.constant or np.any(layer.fan_in.coefficients)):
            continue
        if layer.kind not in ("conv", "depthwise", "grouped", "linear") or "transpose" in layer.operation:
            others.append(layer)
            continue
        free = bool(np.any(layer.inputs.coefficients)), bool(np.any(layer.outputs.coefficients))
        counts = int(layer.inputs(original)), int(layer.outputs(original))
        geometry = (layer.kind, layer.kernel, layer.stride, layer.input_size, layer.output_size, layer.batch)
        found.setdefault((counts, *geometry, int(layer.fan_in(original)), free), []).append(layer)
    return [Shape(members, key[0], grid) for key, members in found.items()], others
