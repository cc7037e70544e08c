"""Walk one exported graph and give every value its labels; `rules/` says what each family of operations does.

Called by `trace.py`; its result (tied atoms, pins, raw layers) is turned into groups by `groups.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from torch import Tensor, fx, nn

from netadapt.network.constants import sized_call
from netadapt.network.followers import remember
from netadapt.network.labels import RANK_OUTPUT
from netadapt.network.operation import (
    Operation,
    Parameter,
    Propagation,
    Value,
    footprint,
    is_in_place,
    module_of,
    operation_name,
)
from netadapt.network.rules import apply_rule


def propagate(graph: fx.GraphModule, inputs: Mapping[str, Value], state: Propagation, model: nn.Module) -> None:
    """Label every value of ``graph``; outputs are pinned.

    Args:
        graph: the exported graph.
        inputs: labels or `Parameter` by placeholder name.
        state: filled in.
        model: the module that was exported, for the names and classes of its parts.
    """
    results = _walk(graph, list(inputs.values()), state, model)
    for value in results:
        if isinstance(value, Tensor):
            state.atoms.pin(value, "its channels are the network's output", RANK_OUTPUT)
        elif isinstance(value, Parameter):
            for axis in [axis for axis in value.axes if axis is not None]:
                atoms = state.atoms.axis(value.name, axis, state.sizes_of(value.name)[axis])
                state.atoms.pin(atoms, "the network returns this parameter", RANK_OUTPUT)


def _walk(graph: fx.GraphModule, inputs: Sequence[Value], state: Propagation, model: nn.Module) -> list[Value]:
    env: dict[fx.Node, Value] = {}
    waiting = iter(inputs)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            env[node] = next(waiting)
        elif node.op == "get_attr":
            held = getattr(graph, str(node.target))
            env[node] = held if isinstance(held, fx.GraphModule) else state.constant(getattr(held, "shape", ()))
        elif node.op == "output":
            return _flat(fx.node.map_arg(node.args[0], lambda n: env[n]))
        elif node.target is operator.getitem:
            held = env[node.args[0]]
            env[node] = held[node.args[1]] if isinstance(held, list) else held
        elif any(isinstance(env.get(a), fx.GraphModule) for a in node.all_input_nodes):
            env[node] = _walk_inner(node, env, state, model)
        else:
            env[node] = apply_rule(Operation(node, env, state, model))
            if is_in_place(node) and isinstance(node.args[0], fx.Node):
                env[node.args[0]] = env[node]
            _remember_channels(node, env, state)
            if call := sized_call(node, env[node]):
                state.sized.append(call)
            values = [item for n in (*node.all_input_nodes, node) for item in _flat(env[n])]
            remember(state.sizes, module_of(node), model, [v for v in values if isinstance(v, Tensor)])
    return []


def _walk_inner(node: fx.Node, env: Mapping[fx.Node, Value], state: Propagation, model: nn.Module) -> Value:
    """Follow a graph inside the graph: ``with torch.no_grad()`` and the like run it once on the operands."""
    operands = [env[a] for a in node.args if isinstance(a, fx.Node)]
    if ("set_grad_enabled" in str(node.target) or "autocast" in str(node.target)) and isinstance(
        operands[0], fx.GraphModule
    ):
        return _walk(operands[0], operands[1:], state, model)
    return Operation(node, env, state, model).pin_all(f"{operation_name(node)} has no rule")


def _flat(value: Value) -> list[Value]:
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [value]


def _remember_channels(node: fx.Node, env: Mapping[fx.Node, Value], state: Propagation) -> None:
    """Keep what goes in and out of modules whose attributes follow from their activations."""
    name, result = module_of(node), env[node]
    if name not in state.channels or not isinstance(result, Tensor) or result.ndim < 2:
        return
    first = state.channels[name][0]
    if first.numel() == 0 and isinstance(source := env[node.all_input_nodes[0]], Tensor):
        first = footprint(source)[0]
    state.channels[name] = (first, footprint(result)[0])
