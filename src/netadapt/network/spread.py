"""Big random weights that take next to no memory and are masked where they are used.

The rows of a `Spread` are overlapping windows on one small pool of random numbers: no two are alike, and an operator
that needs them as they are in an ordinary tensor gets that tensor, for as long as it runs. Linear layers and
convolutions get it a few rows at a time. What is masked is what the operators get. Rows that nobody may need can be
multiples of others (`Multiples`), which cost nothing. Made by `bench.py`, masked by `surgery.py`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

BIG = 500_000  # numbers; a smaller tensor is an ordinary one
_POOL, _LEAST_STEP = 100_000, 7
_PIECE = 500_000  # numbers at a time: they stay in the processor's cache
_POSITIONS, _FEW = 64, 0.25  # picking the inputs that are not masked pays from so many on, or where so few are left

_BY_ROWS = {F.linear, torch.conv1d, torch.conv2d, torch.conv3d}


@dataclass(frozen=True)
class Multiples:
    """Rows of a weight as sums of multiples of two others: what a layer makes of them need not be computed.

    Two, because a layer that is normalised in forward forgets a factor: a multiple of one row would be its copy.

    Attributes:
        computed: the rows to compute, ``(n,)``.
        of: for every row the positions in ``computed`` of the two, ``(2, rows)``.
        times: and their factors, ``(2, rows)``.
    """

    computed: Tensor
    of: Tensor
    times: Tensor

    @classmethod
    def of_kept(cls, kept: Tensor, like: Tensor) -> Multiples:
        """Let the rows that are not ``kept`` be sums of multiples of those, each with factors of its own.

        Args:
            kept: which rows stay as they are, bool ``(rows,)``, at least one.
            like: a tensor with the type and device of the weight.
        """
        rows = torch.arange(len(kept), device=like.device)
        computed = rows[kept]
        first = torch.where(kept, kept.cumsum(0) - 1, rows % len(computed))
        times, more = (0.5 + (rows * irrational) % 1 for irrational in (0.6180339887, 0.7548776662))
        both = torch.stack([torch.where(kept, 1.0, times), torch.where(kept, 0.0, more)])
        return cls(computed, torch.stack([first, (first + 1) % len(computed)]), both.to(like))


class Spread(nn.Parameter):
    """A parameter whose rows overlap in memory; made by `spread`.

    Attributes:
        factors: what operators get is multiplied with these: zeros and ones that broadcast to its shape.
        multiples: how linear layers and convolutions may compute rows, ``None`` where all are computed.
    """

    factors: Sequence[Tensor] = ()
    multiples: Multiples | None = None

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run any operator on what the parameters stand for."""
        options = dict(kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            if func.__name__ == "__get__" and not isinstance(result := func(*args), Tensor):
                return result  # a shape, a device, ...: what need not be masked
            if func in _BY_ROWS and len(args) > 1 and isinstance(args[1], Spread):
                groups, call = _groups(args, options), (_masked(args[0]), args[1], *map(_masked, args[2:]))
                if groups == 1:
                    return _by_rows(func, *call, **options)
                if _alike_in_groups(args[1].multiples, groups):
                    return _by_groups(func, groups, *call, **options)
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
def masked_in_use(
    parameter: nn.Parameter, factors: Sequence[Tensor], multiples: Multiples | None = None
) -> Iterator[None]:
    """Let operators get a parameter times ``factors`` for a while, without a copy that lasts as long.

    Args:
        parameter: of any class of these two, which it gets back.
        factors: see `Spread`.
        multiples: see `Spread`; operators that are no linear layer or convolution get the rows as they are.
    """
    kind, spread_for_now = type(parameter), cast(Spread, parameter)
    parameter.__class__ = Spread
    spread_for_now.factors, spread_for_now.multiples = factors, multiples
    try:
        yield
    finally:
        del spread_for_now.factors, spread_for_now.multiples
        parameter.__class__ = kind


def _masked(value: Any) -> Any:
    """Return a parameter that is masked as an ordinary tensor, anything else as it is."""
    if not isinstance(value, Spread) or not value.factors:
        return value
    return _ordinary(value, slice(None), None)


def _ordinary(weight: Spread, rows: slice | Tensor, inputs: Tensor | None, memory: Tensor | None = None) -> Tensor:
    """Return some rows as an ordinary tensor, masked.

    Args:
        weight: the whole.
        rows: which.
        inputs: those that are not masked, to leave out the others.
        memory: to use for all inputs, at least so many rows.
    """
    result = weight[rows]
    if inputs is not None:
        result = result[:, inputs]
    else:
        result = result.clone() if memory is None else memory[: len(result)].copy_(result)
    for factor in weight.factors:
        if inputs is None or not _of_inputs(factor):
            result.mul_(factor[rows] if len(factor) > 1 else factor)
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
    inputs = _inputs_used(weight)
    if inputs is not None and x.numel() < _POSITIONS * x.shape[channels] and len(inputs) > _FEW * x.shape[channels]:
        inputs = None
    x = x if inputs is None else x.index_select(channels, inputs)
    width = weight.shape[1] if inputs is None else len(inputs)
    at_a_time = max(1, _PIECE // (width * math.prod(weight.shape[2:])))
    # new memory for each piece would cost more than to fill it
    memory = weight.new_empty((at_a_time, *weight.shape[1:])) if inputs is None else None
    pieces = [
        func(x, _ordinary(weight, rows, inputs, memory), None, *args, **options) for rows in _rows(weight, at_a_time)
    ]
    return _with_multiples(torch.cat(pieces, channels), channels, weight, bias)


def _by_groups(
    func: Callable[..., Tensor],
    groups: int,
    /,
    x: Tensor,
    weight: Spread,
    bias: Tensor | None = None,
    *args: Any,
    **options: Any,
) -> Tensor:
    """Run a grouped convolution with the rows to compute, as many in each group, and the inputs that are not masked."""
    assert weight.multiples is not None
    channels = x.ndim - 1 - (weight.ndim - 2)
    inputs = _inputs_used(weight)
    if inputs is not None:
        firsts = torch.arange(groups, device=x.device)[:, None] * weight.shape[1]
        x = x.index_select(channels, (firsts + inputs).reshape(-1))
    result = func(x, _ordinary(weight, weight.multiples.computed, inputs), None, *args, **options)
    return _with_multiples(result, channels, weight, bias)


def _alike_in_groups(multiples: Multiples | None, groups: int) -> bool:
    """Tell whether the same rows of every group of a convolution are computed."""
    if multiples is None or len(multiples.computed) % groups:
        return False
    size = multiples.of.shape[1] // groups
    local = multiples.computed.reshape(groups, -1) - torch.arange(groups, device=multiples.of.device)[:, None] * size
    return bool((local == local[0]).all())


def _with_multiples(result: Tensor, channels: int, weight: Spread, bias: Tensor | None) -> Tensor:
    """Return what was computed with its multiples, and the bias added."""
    over = [-1] + [1] * (weight.ndim - 2)
    if weight.multiples is not None:
        pairs = zip(weight.multiples.of, weight.multiples.times, strict=True)
        first, second = (result.index_select(channels, of).mul_(times.reshape(over)) for of, times in pairs)
        result = first.add_(second)
    return result if bias is None else result.add_(bias.reshape(over))


def _rows(weight: Spread, at_a_time: int) -> Iterator[slice | Tensor]:
    """Iterate over the rows to compute, as many at a time as the processor's cache holds."""
    computed = None if weight.multiples is None else weight.multiples.computed
    for start in range(0, len(weight) if computed is None else len(computed), at_a_time):
        some = slice(start, start + at_a_time)
        yield some if computed is None else computed[some]


def _inputs_used(weight: Spread) -> Tensor | None:
    """Return the inputs that are not masked; ``None`` if all are used, or none."""
    used = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
    for factor in filter(_of_inputs, weight.factors):
        used &= factor.reshape(-1) != 0
    return None if bool(used.all()) or not bool(used.any()) else used.nonzero()[:, 0]
