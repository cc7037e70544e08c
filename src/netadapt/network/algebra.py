"""Width algebra: channel counts, MACs, parameters and activations of any widths, without surgery.

All counts are integer linear forms of the widths, stacked into matrices, so that thousands of candidates are one matrix
product. Used by `network.py`; estimators read `Forms` directly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from netadapt.network.groups import Grouping
from netadapt.network.operation import Propagation, RawLayer
from netadapt.network.structure import Layer, LinearForm, ParameterCount, within

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def linear_form(atoms: Ints, grouping: Grouping) -> LinearForm:
    """Return how many of ``atoms`` stay, as a function of the widths (every unit owns equally many of them)."""
    widths = np.array([g.width for g in grouping.groups], dtype=np.int64)
    owners = np.where(atoms >= 0, grouping.group_of[atoms], -1)
    counts = np.bincount(owners[owners >= 0], minlength=len(widths)).astype(np.int64)
    return LinearForm(int((owners < 0).sum()), counts // np.maximum(widths, 1))


def build_layers(found: Propagation, grouping: Grouping) -> tuple[Layer, ...]:
    """Turn the raw layers into layers whose channel counts are forms of the widths."""
    return tuple(_layer(raw, grouping) for raw in found.layers)


def _layer(raw: RawLayer, grouping: Grouping) -> Layer:
    def form(labels: Tensor | None) -> LinearForm:
        return linear_form(np.empty(0, dtype=np.int64) if labels is None else labels.numpy(), grouping)

    return Layer(
        raw.name,
        raw.kind,
        raw.operation,
        raw.kernel,
        raw.stride,
        raw.input_size,
        raw.output_size,
        raw.batch,
        form(raw.inputs),
        form(raw.outputs),
        form(raw.fan_in),
    )


def count_parameters(names: Sequence[str], found: Propagation, grouping: Grouping) -> tuple[ParameterCount, ...]:
    """Return the sizes of the parameters ``names`` as forms of the widths."""
    counts = []
    for name in names:
        fixed, sizes = 1, []
        for axis, size in enumerate(found.shapes[name]):
            slot = found.atoms.slot(name, axis)
            form = linear_form(np.arange(slot.start, slot.start + size), grouping) if slot else None
            if form is None or not form.coefficients.any():
                fixed *= size
            else:
                sizes.append(form)
        counts.append(ParameterCount(name, fixed, tuple(sizes)))
    return tuple(counts)


@dataclass(frozen=True)
class Stack:
    """Many linear forms at once; evaluated in float64 (exact below 2**53, and much faster than integers)."""

    constants: Floats
    coefficients: Floats

    @classmethod
    def of(cls, forms: Sequence[LinearForm], groups: int) -> Stack:
        """Stack ``forms`` over ``groups`` widths."""
        rows = np.array([f.coefficients for f in forms], dtype=np.float64).reshape(len(forms), groups)
        return cls(np.array([f.constant for f in forms], dtype=np.float64), np.ascontiguousarray(rows.T))

    def __call__(self, vectors: Floats) -> Floats:
        """Evaluate at ``vectors`` ``(m, groups)``; returns ``(m, forms)``."""
        return vectors @ self.coefficients + self.constants


@dataclass(frozen=True)
class Quadratic:
    """A sum of products of two linear forms, multiplied out: ``constant + (linear + widths @ square) . widths``."""

    constant: float
    linear: Floats
    square: Floats

    @classmethod
    def of(cls, terms: Sequence[tuple[float, LinearForm, LinearForm]], groups: int) -> Quadratic:
        """Sum ``factor * a * b`` over ``terms`` ``(factor, a, b)``."""
        factors = np.array([f for f, _, _ in terms], dtype=np.float64)
        a, b = Stack.of([a for _, a, _ in terms], groups), Stack.of([b for _, _, b in terms], groups)
        linear = a.coefficients @ (factors * b.constants) + b.coefficients @ (factors * a.constants)
        return cls(float(factors @ (a.constants * b.constants)), linear, (a.coefficients * factors) @ b.coefficients.T)

    def __call__(self, vectors: Ints) -> Ints:
        """Evaluate at ``vectors`` ``(m, groups)``; returns ``(m,)``."""
        points = vectors.astype(np.float64)
        values = np.einsum("mg,mg->m", points @ self.square + self.linear, points) + self.constant
        whole: Ints = np.rint(values).astype(np.int64)
        return whole


class Total:
    """A quadratic of the widths, less what goes with whole blocks: at width 0 a group takes all of its block along.

    Args:
        whole: over everything.
        blocks: by column of a group, over what is in its block.
    """

    def __init__(self, whole: Quadratic, blocks: Mapping[int, Quadratic]) -> None:
        self._whole, self._blocks = whole, dict(blocks)

    def __call__(self, vectors: Ints) -> Ints:
        """Evaluate at ``vectors`` ``(m, groups)``; returns ``(m,)``."""
        values = self._whole(vectors)
        for column, block in self._blocks.items():
            gone = np.flatnonzero(vectors[:, column] == 0)
            values[gone] -= block(vectors[gone])
        return values


class Forms:
    """The channel counts of all layers, and the totals that follow.

    Attributes:
        layers: the layers, one column each.
        inputs, outputs, fan_in: stacks of forms: call them with ``(m, groups)`` float64 for ``(m, layers)``; in a block
            that is gone they say what would be (`Layer.there` tells).
        macs: multiply-accumulates: call it with ``(m, groups)`` for ``(m,)``; likewise
        parameters: numbers of parameters, shared ones once; and
        activations: elements that all layers write.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        parameters: Sequence[ParameterCount],
        groups: int,
        blocks: Mapping[int, str] | None = None,
    ) -> None:
        self.layers = tuple(layers)
        self.inputs = Stack.of([x.inputs for x in self.layers], groups)
        self.outputs = Stack.of([x.outputs for x in self.layers], groups)
        self.fan_in = Stack.of([x.fan_in for x in self.layers], groups)
        one = LinearForm(1, np.zeros(groups, dtype=np.int64))

        def multiplied(names: Callable[[str], bool]) -> Quadratic:
            return Quadratic.of([(x.area, x.outputs, x.fan_in) for x in self.layers if names(x.name)], groups)

        def entries(names: Callable[[str], bool]) -> Quadratic:
            sizes = [(p.fixed, [*p.sizes, one, one]) for p in parameters if names(p.name)]
            return Quadratic.of([(fixed, forms[0], forms[1]) for fixed, forms in sizes], groups)

        def written(names: Callable[[str], bool]) -> Quadratic:
            written_by = [x for x in self.layers if names(x.name)]
            return Quadratic.of([(float(np.prod(x.output_size)) * x.batch, x.outputs, one) for x in written_by], groups)

        self.macs, self.parameters, self.activations = (
            Total(
                count(lambda name: True),
                {column: count(partial(within, blocks=[block])) for column, block in (blocks or {}).items()},
            )
            for count in (multiplied, entries, written)
        )
