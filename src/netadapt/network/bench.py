"""Where the proof by values takes place: a model, inputs that it accepts, its outputs, and the modes to compare.

Model and inputs are those of `stand_in.py` if they work, else the user's own. A network that is expensive to run is
not run to find that out: a narrow version is. Made by `Network.prove`.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.network import surgery
from netadapt.network.batch_norm import call
from netadapt.network.stand_in import macs_of, own_values, randomised, rebatched, smaller, telling, without_hooks

if TYPE_CHECKING:
    from netadapt.network.network import Network

SHAPES_ONLY = "train, shapes only"

_STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")  # of timm and torchvision: dropout of whole branches

# Multiply-accumulates of one forward pass, from where a narrow version is asked first; and what drawing a weight costs.
_EXPENSIVE_MACS, _MACS_PER_WEIGHT = 8e8, 16
_NARROW = 16  # part of the units of a version that costs little to run


@dataclass
class Bench:
    """A model with random weights in float64, and inputs that it accepts.

    Attributes:
        network: what is to be proved.
        model: a copy; whoever changes it puts it back.
        inputs: random, or the example's own.
        modes: what must be compared: ``eval``, and ``train`` (or `SHAPES_ONLY` if its outputs are random even with
            dropout off) unless the model cannot be trained on the inputs or does the same in both modes.
        covered: the modes that a proof on this bench speaks for.
        notes: what could not be checked, and why.
        whole: outputs of the whole model by mode; `outputs_of_whole` adds those that are asked for.
        drawn: whether it draws random numbers.
        presumed: whether a narrow version of the model has told that it accepts the inputs, and in which modes.
        narrower: the same of a shrunk version that all groups were proved with.
    """

    network: Network
    model: nn.Module
    inputs: Any
    modes: tuple[str, ...] = ("eval",)
    covered: tuple[str, ...] = ("eval",)
    notes: list[str] = field(default_factory=list)
    whole: dict[str, list[Tensor]] = field(default_factory=dict)
    drawn: bool = False
    presumed: bool = False
    narrower: Bench | None = None

    @property
    def expensive(self) -> bool:
        """Whether a forward pass of the whole model costs much."""
        macs = macs_of(self.inputs, self.network)
        return macs + _MACS_PER_WEIGHT * self.network.parameters() >= _EXPENSIVE_MACS

    def outputs(self, module: nn.Module, mode: str) -> list[Tensor]:
        """Return the outputs of a version of the model."""
        return outputs_of(module, self.inputs, training=mode != "eval")

    def outputs_of_whole(self, mode: str) -> list[Tensor]:
        """Return the outputs of the model itself; it must be as it was made."""
        if mode not in self.whole:
            self.whole[mode] = self.outputs(self.model, mode)
        return self.whole[mode]


def outputs_of(module: nn.Module, inputs: Any, *, training: bool = False) -> list[Tensor]:
    """Return all output tensors as float64 with dropout off; modes, buffers and random state are left as they were."""
    return _outputs(module, inputs, training)[0]


def _outputs(module: nn.Module, inputs: Any, training: bool, seed: int = 0) -> tuple[list[Tensor], bool]:
    """Return what `outputs_of` says, and whether random numbers were drawn."""
    devices = sorted({t.device.index for t in surgery.tensors_of(module).values() if t.is_cuda})
    with torch.random.fork_rng(devices=devices), torch.no_grad(), _mode(module, training):
        torch.manual_seed(seed)
        before = _random_states(devices)
        results = tree_leaves(call(module, inputs))
        drawn = _random_states(devices) != before
    return [t.double() for t in results if isinstance(t, Tensor)], drawn


def _random_states(devices: Sequence[int]) -> list[object]:
    """Return the states of all generators that a forward pass may draw from."""
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
    numbers: Any = np.random.get_state(legacy=False)
    values = [v.tobytes() if isinstance(v, np.ndarray) else v for v in numbers["state"].values()]
    return [*(state.numpy().tobytes() for state in states), random.getstate(), values, numbers["gauss"]]


@contextlib.contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a module in eval or train mode without dropout for a while; then restore modes and buffers."""
    was = [(part, part.training) for part in module.modules()]
    shares = [(p, p.dropout) for p in module.modules() if isinstance(p, nn.MultiheadAttention | nn.RNNBase)]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.train(training)
    for part in module.modules():
        if isinstance(part, _DropoutNd) or type(part).__name__ in _STOCHASTIC_DEPTH:
            part.eval()
    for owner, _ in shares:
        owner.dropout = 0.0
    try:
        yield
    finally:
        for part, mode in was:
            part.training = mode
        for owner, share in shares:
            owner.dropout = share
        for buffer, value in buffers:
            if not torch.equal(buffer, value):
                buffer.copy_(value)


def prepare(network: Network, *, presume: bool = True) -> Bench:
    """Find a model and inputs that work: random weights if they stay finite, another batch size if it is accepted.

    Args:
        network: what is to be proved.
        presume: where a forward pass is expensive, believe a narrow version.
    """
    drawn = randomised(network.model)
    other, example = (tree_map(telling, x) for x in (rebatched(network.example_inputs), network.example_inputs))
    reduced = smaller(other, network)
    if reduced is not None:
        bench = Bench(network, drawn, reduced)
        if presume and (found := _presumed(bench)):
            return found
        if not _refusal(bench, "eval") and not _refusal(bench, "train"):
            return _with_modes(bench, "")
    first = ""
    for model, inputs, used in (
        (drawn, other, ""),
        (drawn, example, "the example's own inputs"),
        (None, other, "the model's own weights"),
        (None, example, "the model's own weights and the example's own inputs"),
    ):
        bench = Bench(network, model or without_hooks(surgery.copy_with(network.model, own_values)), inputs)
        if presume and not used and (found := _presumed(bench)):
            return found
        refusal = _refusal(bench, "eval")
        first = first or refusal
        if not refusal:
            bench.notes += [f"checked with {used} only: {first}"] if used else []
            return _with_modes(bench, _refusal(bench, "train"))
    bench.notes.append(f"the model fails on everything that was tried: {refusal}")
    return bench


def _presumed(bench: Bench) -> Bench | None:
    """Return an expensive ``bench`` with the modes that a narrow version of its model has, ``None`` if that fails."""
    network = bench.network
    if not bench.expensive:
        return None
    kept = {group.name: range(-(-group.width // _NARROW)) for group in network.groups}
    try:
        narrow = replace(bench, model=surgery.shrink(network, kept, bench.model, borrow=True), whole={}, notes=[])
    except Exception:  # noqa: BLE001  not all groups need work: that is found out later
        return None
    if _refusal(narrow, "eval") or _refusal(narrow, "train"):
        return None
    return replace(_with_modes(narrow, ""), model=bench.model, whole={}, presumed=True)


def _refusal(bench: Bench, mode: str) -> str:
    """Return why the model gives no finite outputs in ``mode``; if it does, keep them and return nothing."""
    try:
        outputs, drawn = _outputs(bench.model, bench.inputs, mode != "eval")
    except Exception as error:  # noqa: BLE001  the user's forward may raise anything
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if not all(bool(torch.isfinite(t).all()) for t in outputs):
        return "outputs are not finite"
    bench.whole[mode] = outputs
    bench.drawn |= drawn
    return ""


def _with_modes(bench: Bench, refusal: str) -> Bench:
    """Decide how train mode is checked; ``refusal`` tells why it cannot be."""
    unseen = bench.network.unseen
    if refusal:
        bench.notes.append(f"train mode was not checked ({refusal})")
        if unseen:
            bench.notes.append(f"{unseen[0]} is not used in eval mode: whether it follows a removal is not known")
        return bench
    if distance(bench.whole["eval"], bench.whole["train"]) == 0 and not unseen:
        bench.covered += ("train",)  # it does the same in both modes
        return bench
    mode = "train"
    if bench.drawn and distance(bench.whole["train"], again := _outputs(bench.model, bench.inputs, True, seed=1)[0]):
        mode = SHAPES_ONLY
        bench.whole[mode] = again
        bench.notes.append("outputs in train mode are random: only their shapes were checked")
    bench.modes += (mode,)
    bench.covered += (mode,)
    return bench


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of outputs, infinite if their shapes differ."""
    if [t.shape for t in a] != [t.shape for t in b]:
        return float("inf")
    gaps = [float((x - y).abs().max()) for x, y in zip(a, b, strict=True) if x.numel()]
    return max(gaps, default=0.0) if not any(math.isnan(gap) for gap in gaps) else float("nan")
