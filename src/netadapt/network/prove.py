"""Proof by values: the shrunk network must equal the original with the removed units masked at their consumers.

All groups are cut at once with different cuts, in float64, in eval and train mode, at another batch size, with random
well-scaled weights and batch statistics (trained ones may hide a channel behind a zero). Called by `Network.prove`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.network import surgery
from netadapt.network.batch_norm import call
from netadapt.network.source import SourceLine, line_of_error

if TYPE_CHECKING:
    from netadapt.network.network import Network
    from netadapt.network.structure import ChannelGroup

logger = logging.getLogger("netadapt")

SHAPES_ONLY = "train, shapes only"
RELATIVE, ABSOLUTE = 1e-7, 1e-12  # of the effect of the masking, of the outputs


@dataclass(frozen=True)
class Failure:
    """Why a group cannot be cut: one clause, and the user's line that failed if one did."""

    reason: str
    line: SourceLine | None = None


@dataclass(frozen=True)
class Proof:
    """What was checked by values.

    Attributes:
        failures: by group, for groups whose removal does not work.
        modes: ``eval`` and, if the module can be trained on the example, ``train`` (``train, shapes only`` if its
            outputs are random even with dropout off).
        batch: the batch size used.
        notes: what could not be checked, and why.
    """

    failures: dict[str, Failure] = field(default_factory=dict)
    modes: tuple[str, ...] = ()
    batch: int = 0
    notes: tuple[str, ...] = ()


@dataclass
class _Bench:
    """A float64 copy of the model with random weights, and inputs that it accepts."""

    network: Network
    model: nn.Module
    inputs: Any
    batch: int
    modes: list[str]
    notes: list[str]


def outputs_of(module: nn.Module, inputs: Any, *, training: bool = False, seed: int = 0) -> list[Tensor]:
    """Return all output tensors as float64 with dropout off; the global random state is left as it was."""
    was = [(part, part.training) for part in module.modules()]
    devices = list({t.device.index for t in surgery.tensors_of(module).values() if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        module.train(training)
        for part in module.modules():
            if isinstance(part, _DropoutNd):
                part.eval()
        try:
            results = tree_leaves(call(module, inputs))
        finally:
            for part, mode in was:
                part.training = mode
    return [t.double() for t in results if isinstance(t, Tensor)]


def difference(
    network: Network, kept: surgery.Kept, module: nn.Module, shrunk: nn.Module | None = None
) -> tuple[float, float]:
    """Return (largest difference between shrunk and masked ``module``, largest output) in float64.

    The inputs are the example's; random ones of their shape where those are all one number (zeros hide everything).
    """
    inputs = tree_map(_telling, network.example_inputs)
    masked = copy.deepcopy(module).double()
    smaller = surgery.shrink(network, kept, module) if shrunk is None else copy.deepcopy(shrunk)
    surgery.mask_consumers(network, masked, kept)
    expected = outputs_of(masked, inputs)
    return _distance(expected, outputs_of(smaller.double(), inputs)), _largest(expected)


def prove(network: Network) -> Proof:
    """Check every group; a failure is narrowed down to the groups that cause it."""
    if not network.groups:
        return Proof()
    bench = _prepare(network)
    failures: dict[str, Failure] = {}
    for attempt in (0, 1):
        rest = [g for g in network.groups if g.name not in failures]
        failures |= _culprits(bench, rest, attempt)
    for note in bench.notes:
        logger.info("proof of %s: %s", type(network.model).__name__, note)
    return Proof(failures, tuple(bench.modes), bench.batch, tuple(bench.notes))


def _culprits(bench: _Bench, groups: Sequence[ChannelGroup], attempt: int) -> dict[str, Failure]:
    failure = _failure(bench, groups, attempt) if groups else None
    if failure is None:
        return {}
    if len(groups) == 1:
        return {groups[0].name: failure}
    half = len(groups) // 2
    found = _culprits(bench, groups[:half], attempt) | _culprits(bench, groups[half:], attempt)
    together = replace(failure, reason=f"only together with others, {failure.reason}")
    return found or {g.name: together for g in groups}


def _cut(group: ChannelGroup, attempt: int, number: int) -> tuple[int, ...]:
    """Return units to keep: first a random half, unlike in every group, then a run at the beginning."""
    if attempt == 1:
        return tuple(range(max(1, group.width * 2 // 5)))
    rng = np.random.default_rng([number, group.width])
    count = int(rng.integers(max(1, group.width // 3), max(2, group.width * 3 // 4 + 1)))
    return tuple(sorted(rng.choice(group.width, count, replace=False).tolist()))


def _failure(bench: _Bench, groups: Sequence[ChannelGroup], attempt: int) -> Failure | None:
    """Return why the groups cannot be cut together, ``None`` if they can."""
    network = bench.network
    kept = {g.name: _cut(g, attempt, i) for i, g in enumerate(groups)}
    masked = copy.deepcopy(bench.model)
    surgery.mask_consumers(network, masked, kept)
    try:
        shrunk = surgery.shrink(network, kept, bench.model)
        for mode in bench.modes if attempt == 0 else ["eval"]:
            training = mode != "eval"
            with_all = outputs_of(bench.model, bench.inputs, training=training)
            expected = outputs_of(masked, bench.inputs, training=training)
            got = outputs_of(shrunk, bench.inputs, training=training)
            if [t.shape for t in got] != [t.shape for t in expected]:
                return Failure(f"outputs of another shape in {mode} mode: a size is written into forward")
            if mode == SHAPES_ONLY:
                continue
            limit = RELATIVE * _distance(with_all, expected) + ABSOLUTE * _largest(expected)
            if not _distance(expected, got) <= limit:
                return Failure(f"values differ from the masked network in {mode} mode: a size is written into forward")
    except Exception as error:  # noqa: BLE001  the user's forward may raise anything on other sizes
        first = str(error).strip().splitlines()[:1]
        return Failure(f"{type(error).__name__}: {first[0] if first else ''}", line_of_error(error))
    return None


def _distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    if [t.shape for t in a] != [t.shape for t in b]:
        return float("inf")
    gaps = [float((x - y).abs().max()) for x, y in zip(a, b, strict=True) if x.numel()]
    return max(gaps, default=0.0) if not any(np.isnan(gaps)) else float("nan")


def _largest(tensors: Sequence[Tensor]) -> float:
    return max((float(t.abs().max()) for t in tensors if t.numel()), default=0.0)


def _telling(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()):
        generator = torch.Generator().manual_seed(0)
        return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.device)
    return value.double()


def _double(inputs: Any) -> Any:
    return tree_map(lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t, inputs)


def _prepare(network: Network) -> _Bench:
    """Find a model and inputs that work: random weights if they stay finite, another batch size if it is accepted."""
    generator = torch.Generator().manual_seed(0)
    own = without_hooks(copy.deepcopy(network.model).double())
    randomised = copy.deepcopy(own)
    _randomise(randomised, generator)
    example = tree_map(_telling, network.example_inputs), _batch(network.example_inputs)
    other = _rebatched(network.example_inputs, generator)
    model, (inputs, batch), notes = _accepted(
        (randomised, other, ""),
        (randomised, example, "the example's own inputs"),
        (own, other, "the model's own weights"),
        (own, example, "the model's own weights and the example's own inputs"),
    )
    modes = ["eval"]
    if refusal := _refusal(model, inputs, training=True):
        notes.append(f"train mode was not checked ({refusal})")
        if network.unseen:
            notes.append(f"{network.unseen[0]} is not used in eval mode: whether it follows a removal is not known")
    elif _distance(outputs_of(model, inputs, training=True), outputs_of(model, inputs, training=True, seed=1)) != 0:
        modes.append(SHAPES_ONLY)
        notes.append("outputs in train mode are random: only their shapes were checked")
    else:
        modes.append("train")
    return _Bench(network, model, inputs, batch, modes, notes)


def _accepted(*choices: tuple[nn.Module, tuple[Any, int], str]) -> tuple[nn.Module, tuple[Any, int], list[str]]:
    """Return the first (model, inputs and batch, notes) whose outputs are finite; else the last."""
    refusals = []
    for model, inputs, used in choices:
        refusals.append(_refusal(model, inputs[0], training=False))
        if not refusals[-1]:
            return model, inputs, [f"checked with {used} only: {refusals[0]}"] if used else []
    return *choices[-1][:2], [f"the model fails on everything that was tried: {refusals[-1]}"]


def without_hooks(model: nn.Module) -> nn.Module:
    """Remove all forward hooks from ``model``, in place, and return it."""
    for part in model.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return model


def _refusal(model: nn.Module, inputs: Any, *, training: bool) -> str:
    """Return why ``model`` gives no finite outputs on ``inputs``, empty if it does."""
    try:
        finite = all(bool(torch.isfinite(t).all()) for t in outputs_of(copy.deepcopy(model), inputs, training=training))
    except Exception as error:  # noqa: BLE001  the user's forward may raise anything
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return "" if finite else "outputs are not finite"


def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Give every floating tensor random values that keep signals alive (He's scale) and channels distinguishable."""

    def normal(t: Tensor, scale: float, shift: float = 0.0) -> None:
        t.copy_(torch.randn(t.shape, generator=generator, dtype=torch.float64) * scale + shift)

    with torch.no_grad():
        for p in model.parameters():
            if p.is_floating_point():
                fan_in = p[0].numel() if p.ndim > 1 else 1
                normal(p, (2.0 / fan_in) ** 0.5) if p.ndim > 1 and fan_in > 1 else normal(p, 0.3, 0.5)
        for part in model.modules():
            if isinstance(part, _NormBase) and part.running_mean is not None and part.running_var is not None:
                normal(part.running_mean, 0.3)
                normal(part.running_var, 0.1, 1.0)
                part.running_var.abs_()


def _batch(inputs: Any) -> int:
    sizes = [t.shape[0] for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim]
    return sizes[0] if sizes else 0


def _rebatched(inputs: Any, generator: torch.Generator) -> tuple[Any, int]:
    """Return random inputs like ``inputs`` with 2 images (3 if the example has 2)."""
    old = _batch(inputs)
    new = 3 if old == 2 else 2

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        rows = torch.arange(new) % max(old, 1)
        wider = t[rows.to(t.device)] if t.ndim and t.shape[0] == old else t
        if not wider.is_floating_point():
            return wider
        return torch.randn(wider.shape, generator=generator, dtype=torch.float64).to(wider.device)

    return tree_map(change, inputs), new
