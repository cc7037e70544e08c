"""`trace`: from a user's module and example inputs to a `Network`, through one `torch.export` in eval mode.

The user's module stays untouched: a copy without hooks is exported. Bad input ends in one clear `ModelError`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves

from netadapt.errors import ModelError, did_you_mean
from netadapt.network.attributes import needs_channels
from netadapt.network.batch_norm import call
from netadapt.network.borrowed import Watch, clean_copy
from netadapt.network.fast_paths import without_fast_paths
from netadapt.network.groups import layer_of
from netadapt.network.labels import RANK_ASKED, RANK_INPUT
from netadapt.network.network import Network
from netadapt.network.operation import Parameter, Propagation, Value
from netadapt.network.propagation import propagate
from netadapt.network.source import SourceLine, line_in_text, line_of_error
from netadapt.network.stand_in import rebatched, without_hooks
from netadapt.network.surgery import tensors_of

logger = logging.getLogger("netadapt")


def trace(
    model: nn.Module,
    example_inputs: Any,
    *,
    prove: bool = True,
    keep: Sequence[str] = (),
    exact: bool = True,
    blocks: bool = False,
) -> Network:
    """Trace a model once and find its channel groups.

    Args:
        model: a trained module; it is not changed.
        example_inputs: tensor, tuple of arguments or dict of keyword arguments, in the deployed shape with batch.
        prove: check every group by values and pin those that fail; switch off only to look at raw groups.
        keep: qualified module names (or patterns such as ``blocks.0.*``) whose output channels must stay.
        exact: offer only groups whose removal leaves all other values as they were. ``False`` also offers those over
            which a norm takes its statistics (`ChannelGroup.inexact`): the residual stream of a transformer, layers
            with standardised weights. What stays is sliced as exactly, but computes with other statistics, so that
            only a fine-tune tells what such a cut costs.
        blocks: offer whole residual blocks too: the first group that is all within one may have the width 0
            (`ChannelGroup.block`).

    Raises:
        ModelError: the model cannot be traced; the message says what, where and what to do.
    """
    network = Network(model, example_inputs, _follow(model, example_inputs, keep, exact))
    if prove:
        network.prove()
    if blocks:
        network.offer_blocks()
    return network


def _follow(model: nn.Module, inputs: Any, keep: Sequence[str], exact: bool) -> Propagation:
    """Return what the graph of ``model`` says about its channels."""
    _check_model(model)
    subject = _subject(model, inputs)
    state = Propagation(shapes={name: tuple(t.shape) for name, t in tensors_of(subject).items()})
    state.atoms.exact = exact
    empty = torch.empty(0, dtype=torch.int64)
    state.channels = {name: (empty, empty) for name, part in subject.named_modules() if needs_channels(part)}
    _propagate(_export(subject, inputs), subject, state)
    if any(name not in state.used for name, _ in subject.named_parameters()):
        _follow_training(subject, inputs, state)
    state.channels = {k: v for k, v in state.channels.items() if v[1].numel()}
    _keep(keep, state, subject)
    return state


def _follow_training(model: nn.Module, inputs: Any, state: Propagation) -> None:
    """Let layers that only train mode uses (auxiliary heads) follow what they read; they themselves stay."""
    known = len(state.atoms.slots)
    training = Propagation(
        atoms=state.atoms,
        channels=state.channels,
        used=state.used,
        shapes=state.shapes,
        sized=state.sized,
        standardised=state.standardised,
    )
    try:
        exported = _export(model.train(), rebatched(inputs))  # one image may be too few for a batch norm
    except ModelError as error:
        logger.debug("train mode cannot be traced: %s", error)
        return
    _propagate(exported, model, training)
    for slot in state.atoms.slots[known:]:
        if slot.role == "output":
            atoms = torch.arange(slot.start, slot.start + slot.size)
            state.atoms.pin(atoms, "only train mode uses it")


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"expected a torch.nn.Module, got {type(model).__name__}; pass the module itself")
    if isinstance(model, torch.jit.ScriptModule | nn.DataParallel):
        raise ModelError(f"{type(model).__name__} cannot be traced; pass the plain Python module inside it")
    for name, tensor in tensors_of(model).items():
        if isinstance(tensor, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
            raise ModelError(f"{name} is not initialised yet (a lazy module); call the model once before tracing")
        if tensor.is_meta:
            raise ModelError(f"{name} is on the meta device and has no values; load the weights before tracing")
        # a sum is finite or not in one fast pass; only where it is not, every value is looked at
        if tensor.is_floating_point() and not (bool(tensor.sum().isfinite()) or bool(torch.isfinite(tensor).all())):
            bad = int((~torch.isfinite(tensor)).sum())
            raise ModelError(
                f"{name} has {bad} values that are NaN or infinite; load a sound checkpoint before tracing"
            )


def _subject(model: nn.Module, inputs: Any) -> nn.Module:
    """Return a copy in eval mode without hooks that runs on the example: nothing of the user's is run or changed."""
    borrowing = without_hooks(clean_copy(model, borrow=True))
    watch = Watch(borrowing.parameters())
    with contextlib.suppress(ModelError), watch:
        _check_forward(borrowing, inputs)
        if not watch.written:
            return borrowing
    own = without_hooks(clean_copy(model, borrow=False))
    _check_forward(own, inputs)
    return own


def _shapes(inputs: Any) -> str:
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
    return (
        ", ".join(f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')} on {t.device}" for t in tensors)
        or "no tensor"
    )


def _check_forward(model: nn.Module, inputs: Any) -> None:
    leaves = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
    if not leaves:
        raise ModelError(
            f"example_inputs holds no tensor ({type(inputs).__name__}); give a tensor, a tuple or a dict of tensors"
        )
    if any(tensor.is_meta for tensor in leaves):
        raise ModelError(
            f"example_inputs ({_shapes(inputs)}) have no values: groups are proved by values; "
            "give tensors on the network's device, e.g. torch.zeros of that shape"
        )
    try:
        with torch.no_grad():
            call(model, inputs)
    except Exception as error:
        text = str(error).strip().splitlines()
        raise ModelError(
            f"the model fails on the example inputs ({_shapes(inputs)}){_at(line_of_error(error))}: "
            f"{type(error).__name__}: {text[0] if text else ''}; give inputs of the shape and type it is deployed with"
        ) from error


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what torch.export prints about its failures from the user, who gets one clear error instead."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _quiet_export() -> Iterator[None]:
    """Export without third-party chatter and without fused attention; then restore."""
    chatty = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    was_disabled = chatty.disabled
    chatty.disabled = True
    try:
        with without_fast_paths(), warnings.catch_warnings(), _silenced():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatty.disabled = was_disabled


def _export(model: nn.Module, inputs: Any) -> torch.export.ExportedProgram:
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        kwargs = dict(inputs)
    else:
        args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    try:
        with _quiet_export():
            exported = torch.export.export(model, args, kwargs, strict=False)
            exported.graph.eliminate_dead_code()  # attention weights, say, that nobody looks at
            return exported
    except Exception as error:
        text = str(error).strip()
        where = _at(line_of_error(error) or line_in_text(text))
        if "data-dependent" in text or "DataDependent" in type(error).__name__:
            what = (
                f"the forward of {type(model).__name__} looks at values of tensors{where} (a branch, .item(), a mask); "
                "a network needs the same operations for every input: replace the branch (torch.where, torch.clamp) or "
                "trace the part without it"
            )
        else:
            first = text.splitlines()[0] if text else ""
            what = (
                f"torch.export cannot trace {type(model).__name__}{where}: {type(error).__name__}: {first}; "
                "try torch.export.export(model, inputs) alone for its full report"
            )
        raise ModelError(what) from error


def _at(where: SourceLine | None) -> str:
    return f" at {where}" if where else ""


def _propagate(exported: torch.export.ExportedProgram, model: nn.Module, state: Propagation) -> None:
    canonical = {id(t): name for name, t in tensors_of(model).items()}
    everything = dict(model.named_parameters(remove_duplicate=False)) | dict(
        model.named_buffers(remove_duplicate=False)
    )
    inputs: dict[str, Value] = {}
    nodes = {n.name: n for n in exported.graph.nodes if n.op == "placeholder"}
    for spec in exported.graph_signature.input_specs:
        name = str(getattr(spec.arg, "name", ""))
        shape = tuple(getattr(nodes[name].meta.get("val"), "shape", ()))
        tensor = everything.get(str(spec.target))
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and tensor is not None:
            own = canonical[id(tensor)]
            inputs[name] = Parameter(own, shape, tuple(range(len(shape))))
            if nodes[name].users:
                state.used.add(own)
        elif spec.kind is InputKind.USER_INPUT:
            inputs[name] = state.atoms.unknown(shape, "its channels are the network's input", RANK_INPUT)
        else:
            inputs[name] = state.constant(shape)
    propagate(exported.graph_module, inputs, state, model)


def _keep(patterns: Sequence[str], found: Propagation, model: nn.Module) -> None:
    """Pin the output channels of the layers that the user names."""
    names = [name for name, _ in model.named_modules()]
    for pattern in patterns:
        matching = {n for n in names if fnmatch.fnmatchcase(n, pattern) or n.startswith(pattern + ".")}
        if not matching:
            raise ModelError(f"keep names {pattern!r}, which is no module{did_you_mean(pattern, names)}")
        found.asked |= matching
        for slot in list(found.atoms.slots):
            if slot.role != "input" and layer_of(slot.tensor) in matching:
                atoms = torch.arange(slot.start, slot.start + slot.size)
                found.atoms.pin(atoms, f"you asked to keep {pattern!r}", RANK_ASKED)
