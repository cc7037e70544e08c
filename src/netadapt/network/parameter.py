"""Parameters and buffers as values of the graph: which axis of which tensor each dimension of a view is.

Several axes of one tensor may hold units, so that no label tensor can say what each element belongs to; rules take the
atoms of one axis at a time (`Operation.axis`). Used by `operation.py` and `rules/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netadapt.network.labels import blocks


@dataclass(frozen=True)
class Parameter:
    """A parameter or buffer as a graph value that was at most transposed, broadcast, or read at constant places.

    Attributes:
        name: canonical qualified name.
        shape: of this view.
        axes: which axis of the tensor each dimension of the view is, ``None`` if none of it (repeated or picked).
        starts: where the view begins along some axes, by axis.
        folded: sizes of the dimensions that were flattened behind an axis, by axis: ``(out, in, 3, 3)`` as
            ``(out, 9 * in)``.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int | None, ...]
    starts: Mapping[int, int] = field(default_factory=dict)
    folded: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def long(self) -> list[int]:
        """The dimensions that are an axis of more than one entry."""
        return [d for d, axis in enumerate(self.axes) if self.shape[d] > 1 and axis is not None]

    def permuted(self, order: Sequence[int]) -> Parameter:
        """Return the view with its dimensions in another order."""
        shape, axes = tuple(self.shape[d] for d in order), tuple(self.axes[d] for d in order)
        return replace(self, shape=shape, axes=axes)

    def narrowed(self, dim: int, start: int, size: int) -> Parameter:
        """Return the part of ``size`` entries from ``start`` along a dimension."""
        shape = (*self.shape[:dim], size, *self.shape[dim + 1 :])
        axis = self.axes[dim]
        starts = self.starts if axis is None else {**self.starts, axis: self.starts.get(axis, 0) + start}
        return replace(self, shape=shape, starts=starts)

    def folded_behind(self, axis: int) -> int:
        """Return how many entries of the view each entry of an axis is."""
        return math.prod(self.folded.get(axis, ()))

    def reduced(self, dims: Iterable[int], shape: Sequence[int]) -> Parameter:
        """Return what a reduction over ``dims`` leaves, of the given shape: as many dimensions, or without those."""
        dims = set(dims)
        axes = [None if d in dims else axis for d, axis in enumerate(self.axes)]
        if len(shape) < len(axes):
            axes = [axis for d, axis in enumerate(axes) if d not in dims]
        return replace(self, shape=tuple(shape), axes=tuple(axes))

    def reshaped(self, shape: Sequence[int]) -> Parameter | None:
        """Return the view in another shape; ``None`` if that takes an axis apart.

        What is flattened behind an axis is remembered, so that the same shape can be given back; the axes among it are
        lost.
        """
        axes: list[int | None] = [None] * len(shape)
        folded = dict(self.folded)
        for old, new in blocks(self.shape, shape):
            before, after = ([d for d in dims if sizes[d] > 1] for dims, sizes in ((old, self.shape), (new, shape)))
            if not any(self.axes[d] is not None for d in before):
                continue
            axis = self.axes[before[0]]
            if axis is None or not self._refold(folded, axis, before, [shape[d] for d in after]):
                return None
            axes[after[0]] = axis
        return replace(self, shape=tuple(shape), axes=tuple(axes), folded=folded)

    def _refold(self, folded: dict[int, tuple[int, ...]], axis: int, before: list[int], sizes: list[int]) -> bool:
        """Note what a block of dimensions, the first of which is ``axis``, becomes; tell whether it stays whole."""
        tail = folded.pop(axis, ())
        if len(sizes) > 1:
            return len(before) == 1 and tuple(sizes[1:]) == tail
        tail += tuple(self.shape[d] for d in before[1:])
        if tail:
            folded[axis] = tail
        return True
