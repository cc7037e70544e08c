"""What the rules work with: one call in the graph (`Operation`), and what a walk over the graph collects.

Made by `propagation.py` for every node of the exported graph; used by `rules/`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from netadapt.network.attributes import Size
from netadapt.network.labels import NONE, Atoms, compact, none, spread
from netadapt.network.parameter import Parameter as Parameter
from netadapt.network.source import line_of_node
from netadapt.network.structure import Kind, Role

if TYPE_CHECKING:
    from netadapt.network.constants import SizedCall


Value = Any  # a label Tensor, a Parameter, a list of them, or a plain Python argument


@dataclass(frozen=True)
class RawLayer:
    """A layer before the groups are known: its channel counts are vectors of atoms."""

    name: str
    kind: Kind
    operation: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    input_size: tuple[int, ...]
    output_size: tuple[int, ...]
    batch: int
    inputs: Tensor
    outputs: Tensor
    fan_in: Tensor | None


@dataclass
class Propagation:
    """Everything that one walk over the graph found out.

    Attributes:
        atoms: the atoms, ties and pins.
        layers: operations that cost something, in order of execution.
        channels: for modules with an activation fixer, labels along dimension 1 of what goes in and comes out.
        sizes: by module and size in an attribute, what it may be the size of (see `followers.py`).
        used: canonical names of the parameters and buffers that some operation read.
        shapes: of every parameter and buffer, by canonical name.
        constants: shapes of tensors that are neither, by a name of ours; all their axes are pinned.
        standardised: weights of which an axis is normalised over in ``forward``: masking them changes what stays.
        sized: calls that take sizes of channels, in order of execution.
        asked: names of the modules that the user asked to keep.
    """

    atoms: Atoms = field(default_factory=Atoms)
    layers: list[RawLayer] = field(default_factory=list)
    channels: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    sizes: dict[str, dict[Size, list[Tensor]]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, tuple[int, ...]] = field(default_factory=dict)
    standardised: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)

    def sizes_of(self, name: str) -> tuple[int, ...]:
        """Return the shape of a parameter, a buffer or a constant tensor."""
        return self.shapes.get(name) or self.constants[name]

    def constant(self, shape: Sequence[int]) -> Value:
        """Return a tensor that is neither parameter nor buffer: units that it meets along an axis must stay."""
        if math.prod(shape) <= 1:
            return none(shape)
        name = f"constant tensor {len(self.constants) + 1}"
        self.constants[name] = tuple(shape)
        for axis, size in enumerate(shape):
            reason = "it meets a constant tensor that is neither parameter nor buffer"
            self.atoms.pin(self.atoms.axis(name, axis, size), reason)
        return Parameter(name, tuple(shape), tuple(range(len(shape))))

    sized: list[SizedCall] = field(default_factory=list)


class Operation:
    """One call in the graph, as the rules see it: arguments by their ATen name, shapes, ties, pins, costs."""

    def __init__(self, node: fx.Node, env: Mapping[fx.Node, Value], state: Propagation, model: nn.Module) -> None:
        self.node, self.env, self.state, self.model = node, env, state, model
        self.atoms = state.atoms
        self.name = operation_name(node)
        self.args = self._bind()

    def _bind(self) -> dict[str, Any]:
        schema = getattr(self.node.target, "_schema", None)
        if schema is None:
            return {str(i): a for i, a in enumerate(self.node.args)} | dict(self.node.kwargs)
        bound = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        bound |= {a.name: value for a, value in zip(schema.arguments, self.node.args, strict=False)}
        return bound | dict(self.node.kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the (first) result."""
        return shape_of(self.node)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all results of an operation that returns several."""
        value = self.node.meta.get("val")
        return [tuple(v.shape) if isinstance(v, Tensor) else () for v in value or ()]

    @property
    def layer(self) -> str:
        """The qualified name of the innermost module that ran this, empty for the network itself."""
        return module_of(self.node)

    @property
    def where(self) -> str:
        """The user's source line as ``file.py:12``, empty if unknown."""
        return str(line_of_node(self.node) or "")

    def value(self, key: str) -> Value:
        """Return an argument: labels or `Parameter` for tensors, the plain value otherwise."""
        return fx.node.map_arg(self.args.get(key), lambda n: self.env[n])

    def labels(self, key: str) -> Tensor:
        """Return the labels of the tensor argument ``key``."""
        return self.as_labels(self.value(key))

    def operands(self) -> list[Value]:
        """Return labels or `Parameter` of all tensor arguments in order."""
        held = [self.env[node] for node in _nodes((*self.node.args, *self.node.kwargs.values()))]
        flat = [item for value in held for item in (value if isinstance(value, list) else [value])]
        return [item for item in flat if isinstance(item, Tensor | Parameter)]

    def tensors(self) -> Iterator[Tensor]:
        """Iterate over the labels of all tensor arguments in order."""
        for value in self.operands():
            yield self.as_labels(value)

    def as_labels(self, value: Value) -> Tensor:
        """Return the labels of a value; a parameter with several axes has none and stays as it is."""
        if isinstance(value, Parameter):
            long = value.long
            if not long:
                return none(value.shape)
            if len(long) == 1:
                atoms = self.axis(value, long[0])
                view = [1] * len(value.shape)
                view[long[0]] = -1
                return spread(atoms.reshape(view), value.shape)
            reason = f"{value.name} is used by {self.name}, which netadapt does not follow on parameters"
            for dim in long:
                self.pin(self.axis(value, dim), reason)
            return self.atoms.unknown(value.shape, reason, where=self.where)
        if isinstance(value, Tensor):
            return value
        return none(())

    def fixed_along(self, value: Value, dims: Iterable[int], reason: str) -> Tensor:
        """Return the labels of a value; the axes that a parameter has along ``dims`` are pinned and left out."""
        if isinstance(value, Parameter):
            fixed = set(value.long).intersection(dims)
            for dim in fixed:
                self.pin(self.axis(value, dim), reason)
            value = replace(value, axes=tuple(None if dim in fixed else axis for dim, axis in enumerate(value.axes)))
        return self.as_labels(value)

    def opaque(self, labels: Tensor) -> bool:
        """Tell whether ``labels`` are one label everywhere, of a tensor of unknown inner structure."""
        small = compact(labels)
        return small.numel() == 1 and int(small.reshape(1)) in self.atoms.opaque

    def glimpse(self, value: Value) -> Tensor:
        """Return the labels of a value for counting; nothing is pinned where a parameter has several axes."""
        several = isinstance(value, Parameter) and len(value.long) > 1
        return none(value.shape) if several else self.as_labels(value)

    def axis(self, parameter: Parameter, dim: int, role: Role = "elementwise") -> Tensor:
        """Return the atoms along dimension ``dim`` of a parameter."""
        axis, size = parameter.axes[dim], parameter.shape[dim]
        if axis is None:
            return none((size,))
        sizes = self.state.sizes_of(parameter.name)
        whole, behind = self.atoms.axis(parameter.name, axis, sizes[axis], role), parameter.folded_behind(axis)
        return whole.narrow(0, parameter.starts.get(axis, 0), size // behind).repeat_interleave(behind)

    def tie(self, a: Tensor, b: Tensor) -> None:
        """Let labels only be removed together."""
        self.atoms.tie(a, b)

    def pin(self, labels: Tensor, reason: str) -> None:
        """Keep what ``labels`` name, because of ``reason``; the source line is remembered beside it."""
        self.atoms.pin(labels, reason, where=self.where)

    def mix(self, labels: Tensor, reason: str) -> bool:
        """Tell that removing any of ``labels`` changes the values of others, and return whether it is allowed to."""
        self.atoms.mix(labels, reason, where=self.where)
        return not self.atoms.exact

    def mix_axes(self, parameter: Parameter, dims: Iterable[int], reason: str) -> None:
        """Tell the same of some axes of a weight: a statistic over them is used on the weight itself."""
        self.state.standardised.add(parameter.name)
        for dim in dims:
            self.mix(self.axis(parameter, dim), reason)

    def settle(self, labels: Tensor, dims: Iterable[int], reason: str) -> Tensor:
        """Let ``labels`` lose nothing along ``dims``: what lies along them goes as a whole, or stays, by ``reason``.

        Where the units lie along other dimensions too (heads), each of those takes all along ``dims`` with it.

        Returns:
            The labels with ``dims`` narrowed to size 1; -1 where the units lay along them only.
        """
        small = compact(labels)
        changing = [dim for dim, size in enumerate(small.shape) if size > 1]
        fixed = [d for d in {d % labels.ndim for d in dims} if d in changing]
        if not fixed:
            return small
        first = small
        for dim in fixed:
            first = first.narrow(dim, 0, 1)
        if len(fixed) == len(changing):
            self.pin(small, reason)
            return torch.full_like(first, NONE)
        self.tie(small, first)
        return first

    def pin_all(self, reason: str) -> Value:
        """Pin every tensor argument and return unknown labels for the results."""
        for labels in self.tensors():
            self.pin(labels, reason)
        value = self.node.meta.get("val")
        if isinstance(value, list | tuple):
            return [self.atoms.unknown(shape, reason, where=self.where) for shape in self.shapes]
        return self.atoms.unknown(self.shape, reason, where=self.where)

    def cost(
        self,
        kind: Kind,
        inputs: Tensor,
        outputs: Tensor,
        *,
        fan_in: Tensor | None = None,
        kernel: Sequence[int] = (),
        stride: Sequence[int] = (),
        input_size: Sequence[int] = (1, 1),
        output_size: Sequence[int] = (1, 1),
        batch: int = 1,
    ) -> None:
        """Record that this operation costs something; ``inputs``, ``outputs``, ``fan_in`` are vectors of labels."""
        self.state.layers.append(
            RawLayer(
                name=self._layer_name(),
                kind=kind,
                operation=self.name,
                kernel=tuple(kernel),
                stride=tuple(stride),
                input_size=tuple(input_size),
                output_size=tuple(output_size),
                batch=batch,
                inputs=inputs,
                outputs=outputs,
                fan_in=fan_in,
            )
        )

    def _layer_name(self) -> str:
        base = self.layer
        if base == "" or any(True for _ in self.model.get_submodule(base).children()):
            base = f"{base}.{self.name}".lstrip(".")  # functional call in the forward of a container
        self.state.names[base] += 1
        count = self.state.names[base]
        return base if count == 1 else f"{base}#{count}"


Rule = Callable[[Operation], Value]


def operation_name(node: fx.Node) -> str:
    """Return the name without overload and in-place underscore: ``conv2d`` of ATen, else ``library::operation``."""
    packet = getattr(node.target, "overloadpacket", node.target)
    name = getattr(packet, "__name__", str(packet))
    full = getattr(getattr(node.target, "_schema", None), "name", name)
    if "::" in full and not full.startswith("aten::"):
        name = full  # what a user's library calls relu need not be ATen's
    return name if name.startswith("__") else name.rstrip("_")


def is_in_place(node: fx.Node) -> bool:
    """Tell whether the call overwrites its first argument."""
    schema = getattr(node.target, "_schema", None)
    info = schema.arguments[0].alias_info if schema is not None and schema.arguments else None
    return info is not None and info.is_write


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's (first) result."""
    value = node.meta.get("val")
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def module_of(node: fx.Node) -> str:
    """Return the qualified name of the innermost module of a node."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]).split("@")[0] if stack else ""


def footprint(labels: Tensor) -> tuple[Tensor, int, tuple[int, ...]]:
    """Return (labels of the units, batch, sizes of the other dimensions) of an activation."""
    small = compact(labels)
    rest = [labels.shape[d] for d in range(labels.ndim) if small.shape[d] == 1]
    if small.numel() == 1 and labels.ndim > 1:  # one label everywhere: dimension 1 holds the channels
        rest.remove(labels.shape[1])
        small = spread(small.reshape(1), (labels.shape[1],))
    batched = labels.ndim > 0 and (compact(labels).shape[0] == 1)
    return small.reshape(-1), rest[0] if batched and rest else 1, tuple(rest[1:] if batched else rest) or (1, 1)


def _nodes(args: Sequence[Any]) -> Iterator[fx.Node]:
    """Iterate over the graph nodes among arguments, in order, also inside lists."""
    for arg in args:
        if isinstance(arg, fx.Node):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from _nodes(arg)
