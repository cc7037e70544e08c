"""Big random weights that take next to no memory and are masked where they are used.

The rows of a `Spread` are overlapping windows on one small pool of random numbers: no two are alike, and an operator
that needs them as they are in an ordinary tensor gets that tensor, for as long as it runs. Linear layers and
convolutions get it a few rows at a time. What is masked is what the operators get. Made by `bench.py`, masked by
`surgery.py`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

BIG = 500_000  # numbers; a smaller tensor is an ordinary one
_POOL, _LEAST_STEP = 100_000, 7
_PIECE = 500_000  # numbers at a time: they stay in the processor's cache
_POSITIONS = 64  # from so many on it is worth picking the inputs that are not masked

_BY_ROWS = {F.linear, torch.conv1d, torch.conv2d, torch.conv3d}


class Spread(nn.Parameter):
    """A parameter whose rows overlap in memory; made by `spread`.

    Attributes:
        factors: what operators get is multiplied with these: zeros and ones that broadcast to its shape.
    """

    factors: Sequence[Tensor] = ()

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run any operator on what the parameters stand for."""
        options = dict(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            if func.__name__ == "__get__" and not isinstance(result := func(*args), Tensor):
                return result  # a shape, a device, ...: what need not be masked
            if func in _BY_ROWS and len(args) > 1 and isinstance(args[1], Spread) and _groups(args, options) == 1:
                return _by_rows(func, _masked(args[0]), args[1], *map(_masked, args[2:]), **options)
            arguments = tree_map(_masked, (args, options))
            try:
                return func(*arguments[0], **arguments[1])
            except RuntimeError:  # most probably a view that an ordinary tensor allows
                arguments = tree_map(lambda x: x.contiguous() if isinstance(x, Spread) else x, arguments)
                return func(*arguments[0], **arguments[1])


def spread(shape: Sequence[int], draw: Callable[[int], Tensor]) -> Tensor | None:
    """Return a `Spread` of numbers that ``draw`` returns any count of; ``None`` where that would save no memory."""
    if len(shape) < 2 or math.prod(shape) < BIG:
        return None
    rows, size = shape[0], math.prod(shape[1:])
    step = max(_LEAST_STEP, (_POOL - size) // rows)
    count = (rows - 1) * step + size
    if 2 * count > rows * size:
        return None
    strides = [math.prod(shape[dim + 1 :]) for dim in range(1, len(shape))]
    return Spread(draw(count).as_strided(tuple(shape), (step, *strides)), requires_grad=False)


@contextlib.contextmanager
def masked_in_use(parameter: nn.Parameter, factors: Sequence[Tensor]) -> Iterator[None]:
    """Let operators get a parameter times ``factors`` for a while, without a copy that lasts as long."""
    kind, spread_for_now = type(parameter), cast(Spread, parameter)
    parameter.__class__ = Spread
    spread_for_now.factors = factors
    try:
        yield
    finally:
        del spread_for_now.factors
        parameter.__class__ = kind


def _masked(value: Any) -> Any:
    """Return a parameter that is masked as an ordinary tensor, anything else as it is."""
    if not isinstance(value, Spread) or not value.factors:
        return value
    return _ordinary(value, 0, len(value))


def _ordinary(weight: Spread, start: int, stop: int, out: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
    """Return some rows as an ordinary tensor, masked.

    Args:
        weight: the whole.
        start: the first row.
        stop: behind the last one.
        out: the memory to use.
        inputs: those that are not masked, to leave out the others.
    """
    rows = weight[start:stop]
    if inputs is None:
        result = torch.empty(rows.shape, dtype=rows.dtype, device=rows.device) if out is None else out[: stop - start]
        result.copy_(rows)
    else:
        result = rows[:, inputs]
    for factor in weight.factors:
        if inputs is None or not _of_inputs(factor):
            result.mul_(factor[start:stop] if len(factor) > 1 else factor)
    return result


def _of_inputs(factor: Tensor) -> bool:
    """Tell whether a factor masks inputs of a linear layer or convolution."""
    return factor.shape[1] > 1 and factor.numel() == factor.shape[1]


def _groups(args: Sequence[Any], options: Mapping[str, Any]) -> int:
    """Return the groups of a convolution; 1 for a linear layer."""
    groups: int = args[6] if len(args) > 6 else options.get("groups", 1)
    return groups


def _by_rows(
    func: Callable[..., Tensor], x: Tensor, weight: Spread, bias: Tensor | None = None, *args: Any, **options: Any
) -> Tensor:
    """Run a linear layer or a convolution a few outputs at a time, without the inputs that are masked."""
    channels = x.ndim - 1 - (weight.ndim - 2)  # which dimension, of the input and of the result
    inputs = _inputs_used(weight) if x.numel() >= _POSITIONS * x.shape[channels] else None
    x = x if inputs is None else x.index_select(channels, inputs)
    pieces = [
        func(x, rows, None if bias is None else bias[start:stop], *args, **options)
        for start, stop, rows in _pieces(weight, inputs)
    ]
    return torch.cat(pieces, channels)


def _inputs_used(weight: Spread) -> Tensor | None:
    """Return the inputs that are not masked; ``None`` if all are used, or none."""
    used = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    for factor in filter(_of_inputs, weight.factors):
        used &= factor.reshape(-1) != 0
    return None if bool(used.all()) or not bool(used.any()) else used.nonzero()[:, 0]


def _pieces(weight: Spread, inputs: Tensor | None) -> Iterator[tuple[int, int, Tensor]]:
    """Iterate over all rows: first, last + 1 and their values for ``inputs``, which the next ones may replace."""
    width = weight.shape[1] if inputs is None else len(inputs)
    count = max(1, _PIECE // (width * math.prod(weight.shape[2:])))
    shape = (min(count, len(weight)), *weight.shape[1:])
    memory = torch.empty(shape, dtype=weight.dtype, device=weight.device) if inputs is None else None
    for start in range(0, len(weight), count):
        stop = min(start + count, len(weight))
        yield start, stop, _ordinary(weight, start, stop, memory, inputs)
