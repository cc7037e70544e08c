"""Sizes written into a user's forward: which constant, in which line, keeps channels from being removed.

The propagation remembers every call that takes sizes (`view`, `split`, `expand`, ...) with the atoms that it moves.
When the proof by values fails, `Network.prove` asks here which of those sizes stands in the source as a number or as
an attribute instead of following the tensor's own shape. It is advice for the message; nothing is decided by it.
"""

from __future__ import annotations

import ast
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from netadapt.network.labels import compact, varying
from netadapt.network.operation import module_of
from netadapt.network.source import SourceLine, line_of_node

#: arguments of ATen operations that are sizes or positions along a dimension
_SIZES = ("size", "shape", "sizes", "split_size", "split_sizes", "pad", "start", "end", "length")
_ARITHMETIC: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


@dataclass(frozen=True)
class SizedCall:
    """A call whose sizes concern channels.

    Attributes:
        atoms: that it moves, sorted.
        values: the sizes along the dimensions of the channels.
        module: qualified name of the module whose forward makes the call.
        at: the line.
    """

    atoms: NDArray[np.int64]
    values: frozenset[int]
    module: str
    at: SourceLine


@dataclass(frozen=True)
class Constant:
    """A size in the source: its value, how it is written there, and the line."""

    value: int
    written: str
    at: SourceLine

    def __str__(self) -> str:
        """Return e.g. ``64`` or ``64 (self.dim)``."""
        return self.written if self.written == str(self.value) else f"{self.value} ({self.written})"


def sized_call(node: fx.Node, result: Any) -> SizedCall | None:
    """Return what ``node`` says about sizes of channels, ``None`` if nothing.

    Args:
        node: a call in the exported graph.
        result: the labels of its result, or a list of them.
    """
    labels = [item for item in (result if isinstance(result, list) else [result]) if isinstance(item, Tensor)]
    schema, line = getattr(node.target, "_schema", None), line_of_node(node)
    if schema is None or line is None or not labels or not varying(labels[0]):
        return None
    bound = {a.name: value for a, value in zip(schema.arguments, node.args, strict=False)} | dict(node.kwargs)
    dim = bound.get("dim")
    if isinstance(dim, int) and dim % labels[0].ndim not in varying(labels[0]):
        return None
    values = {v for name in _SIZES for v in _along(name, bound.get(name), labels[0]) if v > 1}
    if not values:
        return None
    atoms = np.unique(np.concatenate([compact(item).numpy().reshape(-1) for item in labels]))
    return SizedCall(atoms[atoms >= 0], frozenset(values), module_of(node), line)


def _along(name: str, sizes: Any, result: Tensor) -> Iterator[int]:
    """Yield the sizes of dimensions along which ``result`` changes; all where they are not one per dimension."""
    items = list(sizes) if isinstance(sizes, Sequence) else [sizes]
    if name == "pad":  # the last dimension comes first, two amounts each
        chosen = [items[2 * i : 2 * i + 2] for i in (result.ndim - 1 - dim for dim in varying(result))]
        items = [amount for pair in chosen for amount in pair]
    elif len(items) == result.ndim:
        items = [items[dim] for dim in varying(result)]
    yield from (item for item in items if isinstance(item, int))


def find_constant(
    calls: Iterable[SizedCall], atoms: NDArray[np.int64], model: nn.Module, failed: SourceLine | None
) -> Constant | None:
    """Return the constant in the source that ties ``atoms``, ``None`` if none is seen.

    Args:
        calls: of the whole network, in order of execution.
        atoms: of the group that cannot be cut.
        model: whose parts made the calls.
        failed: the line that failed, looked at first (it may be in a helper that the graph does not know).
    """
    near = [call for call in calls if np.isin(call.atoms, atoms).any()]
    places = [(failed, call) for call in near if failed is not None] + [(call.at, call) for call in near]
    found: dict[SourceLine, list[Constant]] = {}
    for line, call in places:
        found.setdefault(line, []).extend(_constants_of(call, line, model.get_submodule(call.module)))
    telling = next((constants for constants in found.values() if constants), None)
    return max(telling, key=lambda constant: constant.value) if telling else None


def find_input_size(failed: SourceLine | None) -> str | None:
    """Return how a call at ``failed`` writes a size that it takes from the shape of another tensor, if it does.

    ``B, N, C = x.shape`` and then ``y.reshape(B, N, C)`` asks for as many channels as came in, whatever ``y`` has.
    """
    for statement, function in _calls_at(*failed) if failed is not None else ():
        for node in _outermost_first(statement):
            if _last_of_a_shape(node, function):
                return ast.unparse(node)
    return None


def _last_of_a_shape(node: ast.AST, function: ast.AST) -> bool:
    """Tell whether an expression uses the last name that a shape was unpacked into, where that is the channels'."""
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    for step in ast.walk(function):
        if isinstance(step, ast.Assign) and isinstance(target := step.targets[0], ast.Tuple) and target.elts:
            value = step.value.func if isinstance(step.value, ast.Call) else step.value
            last = target.elts[-1]
            shaped = isinstance(value, ast.Attribute) and value.attr in ("shape", "size")
            if shaped and isinstance(last, ast.Name) and last.id in names:
                return len(target.elts) == 3 or last.id.lower() in ("c", "dim", "channels")
    return False


def _constants_of(call: SizedCall, line: SourceLine, module: nn.Module) -> Iterator[Constant]:
    """Yield those sizes of a call that stand in the source at ``line``."""
    for statement, function in _calls_at(*line):
        for node in _outermost_first(statement):
            value = _written(node, function, module)
            if value is not None and value in call.values:
                yield Constant(value, ast.unparse(node), line)


@cache
def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _calls_at(file: Path, line: int) -> Iterator[tuple[ast.expr, ast.AST]]:
    """Yield the calls and subscripts that touch ``line``, the shortest first, each with the function around it."""
    found: list[tuple[int, ast.expr, ast.AST]] = []

    def visit(node: ast.AST, function: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            first, last = getattr(child, "lineno", line), getattr(child, "end_lineno", line) or line
            if isinstance(child, ast.Call | ast.Subscript) and first <= line <= last:
                found.append((last - first, child, function))
            if first <= line <= last:
                visit(child, child if isinstance(child, ast.FunctionDef | ast.Lambda) else function)

    tree = _parsed(file)
    visit(tree, tree)
    yield from ((node, function) for _, node, function in sorted(found, key=lambda item: item[0]))


def _outermost_first(call: ast.expr) -> Iterator[ast.expr]:
    """Yield the expressions within a call's arguments or a subscript's index, wholes before their parts."""
    arguments = [*call.args, *(k.value for k in call.keywords)] if isinstance(call, ast.Call) else []
    arguments += [call.slice] if isinstance(call, ast.Subscript) else []
    queue: list[ast.AST] = list(arguments)
    while queue:
        node = queue.pop(0)
        if isinstance(node, ast.expr):
            yield node
        queue += ast.iter_child_nodes(node)


def _written(node: ast.AST, function: ast.AST, module: nn.Module, depth: int = 0) -> int | None:
    """Return the value of an expression of numbers, attributes of ``self`` and module globals; else ``None``."""
    if depth > 4:
        return None
    value: Any = None
    if isinstance(node, ast.Constant):
        value = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = (_written(side, function, module, depth + 1) for side in (node.left, node.right))
        if left is not None and right is not None and (right or not isinstance(node.op, ast.FloorDiv)):
            value = _ARITHMETIC[type(node.op)](left, right)
    elif isinstance(node, ast.Attribute):
        value = _attribute(node, module)
    elif isinstance(node, ast.Name):
        value = _name(node.id, function, module, depth)
    return value if type(value) is int else None


def _attribute(node: ast.Attribute, module: nn.Module) -> Any:
    """Return ``self.a.b``."""
    path: list[str] = []
    part: ast.expr = node
    while isinstance(part, ast.Attribute):
        path.insert(0, part.attr)
        part = part.value
    if not isinstance(part, ast.Name) or part.id != "self":
        return None
    value: Any = module
    for name in path:
        value = getattr(value, name, None)
    return value


def _name(name: str, function: ast.AST, module: nn.Module, depth: int) -> Any:
    """Return what a name was assigned once in the function, or in the module's file."""
    assigned = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]
    if isinstance(function, ast.FunctionDef) and assigned:
        return _written(assigned[0], function, module, depth + 1) if len(assigned) == 1 else None
    return getattr(sys.modules.get(type(module).__module__), name, None)
