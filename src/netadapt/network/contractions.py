"""Watch the convolutions and linear layers of a running module, whatever class calls them.

A call is recognised by the parameter that serves as its weight, so that subclasses with their own padding and plain
functional use are seen too. Called by `moments.py`
and `refit.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
_CONVOLUTION_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_BATCH_NORM_ARGUMENTS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


@dataclass(frozen=True)
class Contraction:
    """One call of a dense convolution or linear layer, seen as ``outputs = inputs @ weights.T + bias`` row by row.

    Attributes:
        weight_name: qualified name of its weight.
        number: 0 for the first call with this weight, 1 for the next, ...
        input: ``(n, channels, ...)`` for a convolution, ``(..., features)`` for a linear layer.
        weight, bias: parameters.
        stride, padding, dilation: of a convolution, one entry for each spatial axis; empty for a linear layer.
            A padding is (before, after).
    """

    weight_name: str
    number: int
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()

    @property
    def output_size(self) -> tuple[int, ...]:
        """Return the spatial size of a convolution's output; empty for a linear layer."""
        kernel = self.weight.shape[2:]
        return tuple(
            (size + sum(padding) - dilation * (side - 1) - 1) // stride + 1
            for size, side, stride, padding, dilation in zip(
                self.input.shape[2:], kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )

    @property
    def rows(self) -> int:
        """Return how many rows the call has: images times positions."""
        if self.weight.dim() == 2:
            return self.input.numel() // self.input.shape[-1]
        return int(torch.Size((len(self.input), *self.output_size)).numel())

    def input_rows(self, rows: Tensor) -> Iterator[Tensor]:
        """Yield the inputs of ``rows`` (indices, rising) in pieces ``(k, fan-in)``, columns in the weight's order."""
        if self.weight.dim() == 2:
            flat = self.input.reshape(-1, self.input.shape[-1])
            yield from (flat[piece] for piece in torch.split(rows, _piece(self.weight)))
            return
        sides = [side for padding in reversed(self.padding) for side in padding]
        padded = F.pad(self.input, sides) if any(sides) else self.input
        for piece in torch.split(rows, _piece(self.weight)):
            yield self._patches(padded, piece)

    def output_rows(self, output: Tensor, rows: Tensor) -> Tensor:
        """Return what the call put out at ``rows``, ``(len(rows), outputs)``."""
        if self.weight.dim() == 2:
            return output.reshape(-1, output.shape[-1])[rows]
        image, *position = torch.unravel_index(rows, (len(self.input), *self.output_size))
        index: tuple[Any, ...] = (image, slice(None), *position)
        return output[index]

    def _patches(self, padded: Tensor, rows: Tensor) -> Tensor:
        """Return ``(len(rows), channels * kernel)``."""
        image, *positions = torch.unravel_index(rows, (len(padded), *self.output_size))
        axes = len(positions)
        index: list[Any] = [image.reshape(-1, *[1] * axes), slice(None)]
        kernel = self.weight.shape[2:]
        for axis, (position, side, stride, dilation) in enumerate(
            zip(positions, kernel, self.stride, self.dilation, strict=True)
        ):
            offsets = torch.arange(side, device=rows.device) * dilation
            along = position[:, None] * stride + offsets
            index.append(along.reshape(len(rows), *[side if other == axis else 1 for other in range(axes)]))
        patches = padded[tuple(index)]  # the sliced axis of the channels comes last
        return patches.movedim(-1, 1).flatten(1)


def _piece(weight: Tensor) -> int:
    """Return how many rows to take at once: about 4 million numbers."""
    return max(256, 2**22 // weight[0].numel())


Visitor = Callable[[Contraction, Callable[[], Tensor]], Tensor]


class Watch(TorchFunctionMode):
    """While active, hand every dense contraction of a module to a visitor, and run batch norms on batch statistics.

    Running statistics stay as they are.

    Args:
        weights: by qualified name; calls of other weights pass unseen.
        visit: gets the call and a function that computes its output; returns the output to go on with. It may change
            the weights in place before it computes.

    Attributes:
        normalised: names of the weights whose output went straight into a batch norm.
    """

    def __init__(self, weights: Mapping[str, Tensor], visit: Visitor) -> None:
        super().__init__()
        self.normalised: set[str] = set()
        self._names = {id(weight): name for name, weight in weights.items()}
        self._visit = visit
        self._calls: dict[str, int] = {}
        self._last: tuple[str, Tensor] | None = None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Route one operation."""
        kwargs = kwargs or {}
        if func is F.linear or func in _CONVOLUTIONS:
            return self._contract(func, args, kwargs)
        if func is F.batch_norm:
            return self._normalise(args, kwargs)
        return func(*args, **kwargs)

    def _contract(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(_CONVOLUTION_ARGUMENTS, args, strict=False)) | kwargs
        name = self._names.get(id(given["weight"]))
        if name is None or given.get("groups", 1) != 1:
            output: Tensor = func(*args, **kwargs)
            return output
        number = self._calls.get(name, 0)
        self._calls[name] = number + 1
        output = self._visit(_contraction(name, number, given), lambda: func(*args, **kwargs))
        self._last = (name, output)
        return output

    def _normalise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(_BATCH_NORM_ARGUMENTS, args, strict=False)) | kwargs
        x = given["input"]
        if self._last is not None and self._last[1] is x:
            self.normalised.add(self._last[0])
        if x.numel() > x.shape[1]:  # one value a channel has no variance: as it is
            given.update(training=True, running_mean=None, running_var=None)
        return F.batch_norm(**given)


def _contraction(name: str, number: int, given: Mapping[str, Any]) -> Contraction:
    x, weight, bias = given["input"], given["weight"], given.get("bias")
    axes = weight.dim() - 2
    if axes == 0:
        return Contraction(name, number, x, weight, bias)
    x = x if x.dim() == weight.dim() else x.unsqueeze(0)
    dilation = _each(given.get("dilation", 1), axes)
    padding = given.get("padding", 0)
    if padding == "same":
        totals = [step * (side - 1) for step, side in zip(dilation, weight.shape[2:], strict=True)]
        sides = tuple((total // 2, total - total // 2) for total in totals)
    else:
        sides = tuple((side, side) for side in _each(0 if padding == "valid" else padding, axes))
    return Contraction(name, number, x, weight, bias, _each(given.get("stride", 1), axes), sides, dilation)


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values
