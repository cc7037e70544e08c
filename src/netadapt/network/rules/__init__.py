"""One short rule per family of ATen operations: what an operation does to labels.

A rule takes an `Operation` and returns the labels of its results. An operation without a rule pins all it touches.
"""

from __future__ import annotations

from netadapt.network.propagation import Operation, Value, footprint
from netadapt.network.rules import contraction, elementwise, movement, normalisation, reduction
from netadapt.network.rules.registry import RULES

__all__ = ["RULES", "apply_rule", "contraction", "elementwise", "movement", "normalisation", "reduction"]


def apply_rule(op: Operation) -> Value:
    """Return the labels of the results of ``op`` and record what it costs."""
    rule, kind = RULES.get(op.name, (_unknown, "other"))
    result = rule(op)
    if kind is not None and op.shape:
        first = result[0] if isinstance(result, list) else result
        outputs, batch, size = footprint(first)
        source = next((t for t in op.tensors() if t.ndim), first)
        inputs, _, input_size = footprint(source)
        op.cost(kind, inputs, outputs, input_size=input_size, output_size=size, batch=batch)
    return result


def _unknown(op: Operation) -> Value:
    return op.pin_all(f"its channels reach {op.name}, an operation without a rule")
