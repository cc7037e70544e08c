"""One short rule per family of ATen operations: what an operation does to labels.

A rule takes an `Operation` and returns the labels of its results. An operation without a rule pins all it touches.
"""

from __future__ import annotations

import logging

from torch import Tensor

from netadapt.network.labels import compact, none
from netadapt.network.operation import Operation, Value, footprint
from netadapt.network.rules import (
    contraction,
    elementwise,
    movement,
    normalisation,
    product,
    recurrent,
    reduction,
    shuffles,
    tables,
)
from netadapt.network.rules.counting import count_call, is_product
from netadapt.network.rules.registry import RULES

logger = logging.getLogger("netadapt")

__all__ = [
    "RULES",
    "apply_rule",
    "contraction",
    "elementwise",
    "movement",
    "normalisation",
    "product",
    "recurrent",
    "reduction",
    "shuffles",
    "tables",
]


def apply_rule(op: Operation) -> Value:
    """Return the labels of the results of ``op`` and record what it costs."""
    rule, kind = RULES.get(op.name, (_unknown, "other"))
    counted = len(op.state.layers)
    try:
        result = rule(op)
        followed = not isinstance(result, Tensor) or tuple(result.shape) == op.shape
    except Exception:  # an unusual call of a known operation: whatever went wrong, pinning is always right
        logger.debug("rule for %s at %s failed", op.name, op.where, exc_info=True)
        followed = False
    if not followed:
        result = op.pin_all(f"its channels reach a call of {op.name} that netadapt does not follow")
    if (is_product(op) or rule is _unknown) and len(op.state.layers) == counted:
        count_call(op)
    if kind is not None and op.shape and len(op.state.layers) == counted:
        first = op.glimpse(result[0] if isinstance(result, list) else result)
        outputs, batch, size = footprint(first)
        source = next((op.glimpse(v) for v in op.operands() if len(v.shape)), first)
        inputs, _, input_size = footprint(source)
        op.cost(kind, inputs, outputs, input_size=input_size, output_size=size, batch=batch)
    return result


def _unknown(op: Operation) -> Value:
    operands = op.operands()
    if operands and all(isinstance(v, Tensor) and bool((compact(v) < 0).all()) for v in operands):
        several = isinstance(op.node.meta.get("val"), list | tuple)  # computed from constants alone, as a mask is
        return [none(shape) for shape in op.shapes] if several else none(op.shape)
    return op.pin_all(f"its channels reach {op.name}, an operation without a rule")
