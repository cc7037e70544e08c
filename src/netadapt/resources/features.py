"""What a network's cost may depend on, as columns computed from its widths (DESIGN section 8).

Network-wide columns, columns per layer (identical layers share them), smooth columns per layer that stand for a
radial kernel, and how layers can pack their channels; one vectorised expression over thousands of width vectors. Used
by `network_model.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import Layer, LinearForm
from netadapt.resources.estimator import Widths

if TYPE_CHECKING:
    from netadapt.network import Network

Floats = NDArray[np.float32]  # half the memory traffic; counts are far below 2^24
Integers = NDArray[np.int64]
_Shapes = list[list[int]]  # indices of the layers of each shape

#: "peak" is the largest sum of a layer's inputs and outputs; "thin" columns count only layers that sum over fewer
#: channels than the vector width
NETWORK_COLUMNS = (
    "constant", "dense macs", "depthwise macs", "first macs", "weights", "activations", "peak", "macs",
    "thin macs", "thin inputs", "thin outputs",
)  # fmt: skip
BASELINE = (0, 1, 2, 3, 4, 5, 6)  #: columns whose non-negative combination is a network's expected cost
WEIGHTS, ACTIVATIONS, PEAK, MACS = 4, 5, 6, 7
_THIN = slice(8, None)
_ORDER = 3  # smooth columns are products of eigenfunctions whose orders add up to at most this
_PAIRS = [(i, j) for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i) if i + j]
_PACKS = (4, 8, 16)  # so many channels side by side are one piece to some runtimes, where a layer's number allows it
_PACKINGS = (len(_PACKS) + 1) ** 2  # pairs of how channels are packed, read and written
_PACKABLE = np.sum([np.arange(max(_PACKS)) % pack == 0 for pack in _PACKS], axis=0)  # by the number of channels


class Features:
    """Computes the columns of a network at any widths, relative to the original network's.

    Args:
        network: the traced network.
        vector: channels are padded to a multiple of this (the platform's vector width).
        length: length scale of the smooth columns, in units of a layer's original width.

    Attributes:
        block_of_column: ``(columns,)``; columns of one block share a prior variance.
        blocks: number of blocks.
    """

    def __init__(self, network: Network, vector: int, length: float) -> None:
        self.vector = vector
        self._names = [layer.name for layer in network.layers if _has_macs(layer)]
        layers = [layer for layer in network.layers if _has_macs(layer)]
        self._counts = _Counts(layers, len(network.groups))
        self._activations = _Activations(network)
        self._blocks = any(group.block for group in network.groups)
        original = np.array([[group.width for group in network.groups]], dtype=np.int64)
        steps = [_steps(counts, vector) for counts in self._counts(original)]
        shares, basis = _shares(layers, original), _Basis(length)
        planes, lines = _shapes(layers, steps, both=True), _shapes(layers, steps, both=False)
        self._planes = _Planes(planes, shares, steps, basis)
        self._lines = _Lines(lines, shares, steps, basis, [bool(np.any(x.fan_in.coefficients)) for x in layers])
        self._norms = self._original_values(original)
        sizes = [*[1] * len(NETWORK_COLUMNS), *self._planes.sizes, *self._lines.sizes, _PACKINGS, *[1] * self._blocks]
        self.block_of_column = np.repeat(np.arange(len(sizes)), sizes)
        self.blocks = len(sizes)

    def __call__(self, widths: Widths) -> tuple[Floats, Floats]:
        """Compute the columns.

        Args:
            widths: ``(m, groups)``.

        Returns:
            Linear columns ``(m, columns)``, and the position ``(m, 3)``: logarithms of MACs, weights, activations.
        """
        sums, outputs = self._counts(widths)
        wide = self._network_wide(widths, sums, outputs) / self._norms[:, None]
        position = np.log(np.maximum(wide[[MACS, WEIGHTS, ACTIVATIONS]], 1e-9))
        steps = _steps(sums, self.vector), _steps(outputs, self.vector)
        packings = _packings(sums, outputs, self._counts.there(widths))
        # where whole blocks can go, the share of the layers that are there: each takes some time of its own
        there = [packings.sum(axis=0, keepdims=True)] * self._blocks
        return np.concatenate([wide, *self._planes(*steps), *self._lines(*steps), packings, *there]).T, position.T

    def by_layer(self, widths: Integers) -> dict[str, Floats]:
        """Return what each layer adds to the network-wide columns, ``(len(NETWORK_COLUMNS),)`` by its name.

        What belongs to no single layer (the constant, the peak) is in none of them.

        Args:
            widths: ``(groups,)``.
        """
        counts = self._counts
        sums, outputs = (values[:, 0] for values in counts(widths[None]))
        padded, products = _pad(outputs, self.vector), sums * outputs
        columns = np.zeros((len(counts.area), len(NETWORK_COLUMNS)), dtype=np.float32)
        columns[:, 1] = counts.area * counts.plain * _pad(sums, self.vector) * padded
        columns[:, 2] = counts.area * counts.depthwise * padded
        columns[:, 3] = counts.area * counts.first * padded * sums
        columns[:, WEIGHTS], columns[:, MACS] = counts.kernel * products, counts.area * products
        found = {name: column / self._norms for name, column in zip(self._names, columns, strict=True)}
        for name, elements in self._activations.by_layer(widths).items():
            found.setdefault(name, np.zeros(len(NETWORK_COLUMNS), dtype=np.float32))[ACTIVATIONS] += (
                elements / self._norms[ACTIVATIONS]
            )
        return found

    def _original_values(self, original: Integers) -> Floats:
        """Return what the columns are divided by; the thin ones by their counterpart over all layers."""
        norms = self._network_wide(original, *self._counts(original))[:, 0]
        norms[_THIN] = norms[MACS], norms[ACTIVATIONS], norms[ACTIVATIONS]
        return np.where(norms > 0, norms, 1.0)

    def _network_wide(self, widths: Widths, sums: Floats, outputs: Floats) -> Floats:
        counts, padded = self._counts, _pad(outputs, self.vector)
        products = sums * outputs
        thin = ((sums < self.vector) & (sums > 0) & counts.plain[:, None]).astype(np.float32)
        columns = [
            np.ones(len(widths), dtype=np.float32),
            (counts.area * counts.plain) @ (_pad(sums, self.vector) * padded),
            (counts.area * counts.depthwise) @ padded,
            (counts.area * counts.first) @ (padded * sums),
            counts.kernel @ products,
            self._activations(widths),
            counts.peak(widths, outputs),
            counts.area @ products,
            counts.area @ (thin * products),
            counts.pixels @ (thin * sums),
            counts.pixels @ (thin * outputs),
        ]
        return np.stack(columns)


class _Planes:
    """Columns of layers of which both channel counts vary: ``{ci, co, ci co}``, and smooth ones in the plane.

    The inner product of the smooth columns is nearly a radial kernel. Channel counts are integers, so the kernel's
    leading eigenfunctions are look-up tables: no exponential is evaluated for a candidate.
    """

    def __init__(self, shapes: _Shapes, shares: Floats, steps: list[Integers], basis: _Basis) -> None:
        self._layers, self._share = _membership(shapes, shares)
        self._whole = [counts[self._layers].astype(np.float32) for counts in steps]
        self._left, self._right = (_Tables(counts[self._layers, 0], basis) for counts in steps)
        self.sizes = (3 * len(shapes), len(_PAIRS) * len(shapes))

    def __call__(self, u: Integers, v: Integers) -> list[Floats]:
        """Return blocks of columns ``(shapes, m)`` for counts in units of the vector width, ``(layers, m)`` each."""
        u, v = u[self._layers], v[self._layers]
        left, right = (steps.astype(np.float32) / whole for steps, whole in zip((u, v), self._whole, strict=True))
        smooth_left, smooth_right = self._left(u), self._right(v)
        columns = [left, right, left * right, *(smooth_left[i] * smooth_right[j] for i, j in _PAIRS)]
        return [self._share @ column for column in columns]


class _Lines:
    """Columns of layers of which one channel count varies: that count, and smooth ones along it."""

    def __init__(
        self, shapes: _Shapes, shares: Floats, steps: list[Integers], basis: _Basis, by_sums: list[bool]
    ) -> None:
        self._layers, self._share = _membership(shapes, shares)
        self._by_sums = np.array(by_sums, dtype=bool)[self._layers]
        whole = np.where(self._by_sums, *(counts[self._layers, 0] for counts in steps))
        self._whole, self._tables = whole[:, None].astype(np.float32), _Tables(whole, basis)
        self.sizes = (len(shapes), _ORDER * len(shapes))

    def __call__(self, u: Integers, v: Integers) -> list[Floats]:
        """Return blocks of columns ``(shapes, m)`` for counts in units of the vector width, ``(layers, m)`` each."""
        chosen = np.where(self._by_sums[:, None], u[self._layers], v[self._layers])
        return [self._share @ column for column in (chosen.astype(np.float32) / self._whole, *self._tables(chosen)[1:])]


class _Tables:
    """The eigenfunctions of a `_Basis` at the channel counts of several layers."""

    def __init__(self, whole: Integers, basis: _Basis) -> None:
        tables = [basis.table(int(steps)) for steps in whole]
        self._offsets = np.cumsum([0, *(table.shape[1] for table in tables[:-1])])[: len(tables), None]
        self._values = np.concatenate([np.zeros((_ORDER + 1, 0), dtype=np.float32), *tables], axis=1)

    def __call__(self, steps: Integers) -> list[Floats]:
        """Return one array of the shape of ``steps``, ``(layers, m)``, for each eigenfunction."""
        where = steps + self._offsets
        return [np.take(values, where, mode="clip") for values in self._values]  # clip: no bounds check


class _Basis:
    """Leading eigenfunctions of the radial kernel on [0, 1], scaled so that their products sum to the kernel."""

    def __init__(self, length: float) -> None:
        self._length = length
        self._grid = np.linspace(0.0, 1.0, 41)
        values, vectors = np.linalg.eigh(self._kernel(self._grid))
        leading = slice(-1, -_ORDER - 2, -1)
        self._map = vectors[:, leading] / np.sqrt(values[leading])

    def table(self, steps: int) -> Floats:
        """Return the values at ``0, 1/steps, ..., 1``, shape ``(_ORDER + 1, steps + 1)``."""
        points = np.arange(steps + 1) / max(steps, 1)
        return np.ascontiguousarray((self._kernel(points) @ self._map).T, dtype=np.float32)

    def _kernel(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((points[:, None] - self._grid) ** 2) / (2 * self._length**2)))


class _Counts:
    """Channels summed over by one output, and channels out, of all layers with MACs: two matrix products."""

    def __init__(self, layers: list[Layer], groups: int) -> None:
        self._sums = _stack([layer.fan_in for layer in layers], groups)
        self._outputs = _stack([layer.outputs for layer in layers], groups)
        self.kernel = np.array([np.prod(layer.kernel) for layer in layers], dtype=np.float32)
        self.pixels = np.array([np.prod(layer.output_size) * layer.batch for layer in layers], dtype=np.float32)
        self.area = self.kernel * self.pixels
        self._inputs = _stack([layer.inputs for layer in layers], groups)
        self._gates = _gates(layers)
        self._gated = bool((self._gates >= 0).any())
        self._read = np.array([np.prod(layer.input_size) * layer.batch for layer in layers], dtype=np.float32)
        self.depthwise = np.array([layer.kind == "depthwise" for layer in layers], dtype=bool)
        self.first = np.array([_is_first(layer) for layer in layers], dtype=bool)
        self.plain = ~self.first & ~self.depthwise

    def __call__(self, widths: Widths) -> tuple[Floats, Floats]:
        """Return both counts, each ``(layers, m)``."""
        exact = np.ascontiguousarray(widths.T, dtype=np.float32)
        sums, outputs = (slope @ exact + constant[:, None] for slope, constant in (self._sums, self._outputs))
        if self._gated:
            there = self.there(widths)
            sums, outputs = sums * there, outputs * there
        return sums, outputs

    def there(self, widths: Widths) -> NDArray[np.bool_]:
        """Return which layers are there, ``(layers, m)``: all but those of blocks that are gone."""
        return (self._gates < 0)[:, None] | (widths.T[self._gates] > 0)

    def peak(self, widths: Widths, outputs: Floats) -> Floats:
        """Return the largest number of values, ``(m,)``, that a layer reads and writes."""
        slope, constant = self._inputs
        read = (slope * self._read[:, None]) @ widths.T.astype(np.float32) + (constant * self._read)[:, None]
        if self._gated:
            read *= self.there(widths)
        return np.asarray(np.max(read + outputs * self.pixels[:, None], axis=0, initial=0.0), dtype=np.float32)


class _Activations:
    """Output elements of all layers as one linear form."""

    def __init__(self, network: Network) -> None:
        sizes = np.array([np.prod(layer.output_size) * layer.batch for layer in network.layers], dtype=np.float32)
        self._names = [layer.name for layer in network.layers]
        self._sizes, (self._matrix, self._constants) = (
            sizes,
            _stack([x.outputs for x in network.layers], len(network.groups)),
        )
        self._slope, self._constant = sizes @ self._matrix, self._constants @ sizes
        self._gates = _gates(network.layers)
        self._blocks = []  # what goes with each block that can go, by the column of its group
        for gate in np.unique(self._gates[self._gates >= 0]).tolist():
            inside = sizes * (self._gates == gate)
            self._blocks.append((gate, inside @ self._matrix, self._constants @ inside))

    def __call__(self, widths: Widths) -> Floats:
        exact = widths.astype(np.float32)
        values = exact @ self._slope + self._constant
        for column, slope, constant in self._blocks:
            gone = np.flatnonzero(widths[:, column] == 0)
            values[gone] -= exact[gone] @ slope + constant
        return np.asarray(values)

    def by_layer(self, widths: Integers) -> dict[str, float]:
        """Return the output elements of each layer at ``(groups,)`` widths."""
        elements = (self._matrix @ widths.astype(np.float32) + self._constants) * self._sizes
        elements[(self._gates >= 0) & (widths[self._gates] == 0)] = 0.0
        return dict(zip(self._names, map(float, elements), strict=True))


def _packings(sums: Floats, outputs: Floats, there: NDArray[np.bool_]) -> Floats:
    """Return the shares of the layers ``(_PACKINGS, m)`` by how their channels can be packed, read and written.

    A runtime that packs channels (ncnn: by 16, else by 8, else by 4) runs other code for every such pair, and repacks
    between layers that disagree. Only layers that are ``there`` count.
    """
    layers, m = sums.shape
    read, written = (_PACKABLE[counts.astype(np.int64) % len(_PACKABLE)] for counts in (sums, outputs))
    pair = (len(_PACKS) + 1) * read + written + _PACKINGS * np.arange(m)
    found = np.bincount(pair[there], minlength=_PACKINGS * m).reshape(m, _PACKINGS).T
    return np.asarray(found / max(layers, 1), dtype=np.float32)


def _gates(layers: Sequence[Layer]) -> Integers:
    """Return the column of the group that each layer's block goes with, ``(layers,)``; -1 for none."""
    return np.array([-1 if layer.gate is None else layer.gate for layer in layers], dtype=np.int64)


def _shapes(layers: list[Layer], steps: list[Integers], *, both: bool) -> _Shapes:
    """Gather layers of equal shape of which both channel counts vary, or exactly one."""
    shapes: dict[tuple[object, ...], list[int]] = {}
    for index, layer in enumerate(layers):
        varies = (bool(np.any(layer.fan_in.coefficients)), bool(np.any(layer.outputs.coefficients)))
        geometry = (layer.kind, layer.kernel, layer.stride, layer.input_size, layer.output_size, layer.batch)
        if sum(varies) == (2 if both else 1):
            key = (*geometry, *varies, *(int(counts[index, 0]) for counts in steps))
            shapes.setdefault(key, []).append(index)
    return list(shapes.values())


def _membership(shapes: _Shapes, shares: Floats) -> tuple[Integers, Floats]:
    """Return the layers of all shapes, and ``(shapes, layers)``: each layer's nominal share in its shape's row."""
    layers = np.array([index for shape in shapes for index in shape], dtype=np.int64)
    share = np.zeros((len(shapes), len(layers)), dtype=np.float32)
    share[np.repeat(np.arange(len(shapes)), [len(shape) for shape in shapes]), np.arange(len(layers))] = shares[layers]
    return layers, share


def _shares(layers: list[Layer], original: Integers) -> Floats:
    """Return each layer's nominal share in the network's cost: half by MACs, half by values read and written."""
    macs = np.array([float(layer.macs(original)[0]) for layer in layers])
    read = [float(layer.inputs(original)[0]) * float(np.prod(layer.input_size)) for layer in layers]
    written = [float(layer.outputs(original)[0]) * float(np.prod(layer.output_size)) for layer in layers]
    moved = np.array([(r + w) * layer.batch for r, w, layer in zip(read, written, layers, strict=True)])
    shares = 0.5 * macs / max(macs.sum(), 1.0) + 0.5 * moved / max(moved.sum(), 1.0)
    return np.asarray(shares, dtype=np.float32)


def _stack(forms: list[LinearForm], groups: int) -> tuple[Floats, Floats]:
    matrix = np.array([form.coefficients for form in forms], dtype=np.float32).reshape(len(forms), groups)
    return matrix, np.array([form.constant for form in forms], dtype=np.float32)


def _has_macs(layer: Layer) -> bool:
    return bool(np.any(layer.fan_in.coefficients)) or layer.fan_in.constant != 0


def _is_first(layer: Layer) -> bool:
    """Whether the layer reads the network's input: few channels, which no group can change."""
    return layer.kind == "conv" and not np.any(layer.inputs.coefficients) and layer.inputs.constant <= 4


def _steps(counts: Floats, vector: int) -> Integers:
    return np.ceil(counts / vector).astype(np.int64)


def _pad(counts: Floats, vector: int) -> Floats:
    return np.asarray(np.ceil(counts / vector) * vector)
