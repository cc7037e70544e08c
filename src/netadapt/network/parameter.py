"""Parameters and buffers as values of the graph: which axis of which tensor each dimension of a view is.

Several axes of one tensor may hold units, so that no label tensor can say what each element belongs to; rules take the
atoms of one axis at a time (`Operation.axis`). Used by `operation.py` and `rules/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int | None, ...]
    starts: Mapping[int, int] = field(default_factory=dict)

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

    def reshaped(self, shape: Sequence[int]) -> Parameter | None:
        """Return the view in another shape, ``None`` if that takes an axis apart or merges it with others."""
        axes: list[int | None] = [None] * len(shape)
        for old, new in blocks(self.shape, shape):
            own = [self.axes[d] for d in old if d in self.long]
            wide = [d for d in new if shape[d] > 1]
            if own and (len(wide) > 1 or len([d for d in old if self.shape[d] > 1]) > 1):
                return None
            for dim in wide if own else []:
                axes[dim] = own[0]
        return replace(self, shape=tuple(shape), axes=tuple(axes))
