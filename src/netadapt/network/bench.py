"""Where the proof by values takes place: a float64 copy with random weights, inputs that it accepts, its outputs.

Random well-scaled weights and batch statistics, because trained ones may hide a channel behind a zero; another batch
size than the example's, because a constant in ``forward`` may hide behind it; and images no larger than they need to
be, because the proof must not cost more than the trace. Made by `prove.py`.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.network import surgery
from netadapt.network.batch_norm import call
from netadapt.network.spread import spread

if TYPE_CHECKING:
    from netadapt.network.network import Network

SHAPES_ONLY = "train, shapes only"

_STOCHASTIC_DEPTH = ("DropPath", "StochasticDepth")  # of timm and torchvision: dropout of whole branches

# Multiply-accumulates that one forward pass of the proof may cost before smaller images are tried, and how small: with
# batch norms there must be more than one pixel per image at the end, or all that train mode shows is signs.
_AFFORDABLE_MACS, _GRANULE, _SMALLEST, _SMALLEST_WITH_NORMS = 5e8, 32, 32, 64
_EXPENSIVE_MACS = 4e9  # of one forward pass, from where a narrow version is asked first
_NARROW = 8  # part of the units of a version that costs little to run
_DRAWN = 1_000_003


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
        whole: outputs of the whole model by mode.
        drawn: whether it draws random numbers.
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
    narrower: Bench | None = None

    def outputs(self, module: nn.Module, mode: str) -> list[Tensor]:
        """Return the outputs of a version of the model."""
        return outputs_of(module, self.inputs, training=mode != "eval")


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
    return [*(state.numpy().tobytes() for state in states), random.getstate(), repr(np.random.get_state())]


@contextlib.contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a module in eval or train mode without dropout for a while; then restore modes and buffers."""
    was = [(part, part.training) for part in module.modules()]
    shares = [(part, part.dropout) for part in module.modules() if isinstance(part, nn.MultiheadAttention)]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.train(training)
    for part in module.modules():
        if isinstance(part, _DropoutNd) or type(part).__name__ in _STOCHASTIC_DEPTH:
            part.eval()
    for attention, _ in shares:
        attention.dropout = 0.0
    try:
        yield
    finally:
        for part, mode in was:
            part.training = mode
        for attention, share in shares:
            attention.dropout = share
        for buffer, value in buffers:
            if not torch.equal(buffer, value):
                buffer.copy_(value)


def prepare(network: Network) -> Bench:
    """Find a model and inputs that work: random weights if they stay finite, another batch size if it is accepted."""
    randomised = _randomised(network.model)
    other, example = (tree_map(telling, x) for x in (rebatched(network.example_inputs), network.example_inputs))
    smaller = _smaller(other, network)
    if smaller is not None:
        bench = Bench(network, randomised, smaller)
        if not _refusal(bench, "eval") and (_same_in_both_modes(bench) or not _refusal(bench, "train")):
            return _with_modes(bench, "")
    first = ""
    for model, inputs, used in (
        (randomised, other, ""),
        (randomised, example, "the example's own inputs"),
        (None, other, "the model's own weights"),
        (None, example, "the model's own weights and the example's own inputs"),
    ):
        bench = Bench(network, model or without_hooks(surgery.copy_with(network.model, _own)), inputs)
        refusal = _refusal(bench, "eval")
        first = first or refusal
        if not refusal:
            bench.notes += [f"checked with {used} only: {first}"] if used else []
            return _with_modes(bench, "" if _same_in_both_modes(bench) else _refusal(bench, "train"))
    bench.notes.append(f"the model fails on everything that was tried: {refusal}")
    return bench


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


def _same_in_both_modes(bench: Bench) -> bool:
    """Tell, where a forward pass is expensive, by a narrow version whether eval and train mode are the same."""
    network = bench.network
    if _cost(bench.inputs, network) < _EXPENSIVE_MACS or network.unseen or _has_batch_norm(bench.model):
        return False
    kept = {group.name: range(-(-group.width // _NARROW)) for group in network.groups}
    try:
        narrow = surgery.shrink(network, kept, bench.model, borrow=True)
        return distance(bench.outputs(narrow, "eval"), bench.outputs(narrow, "train")) == 0
    except Exception:  # noqa: BLE001  not all groups need work: that is found out later
        return False


def _with_modes(bench: Bench, refusal: str) -> Bench:
    """Decide how train mode is checked; ``refusal`` tells why it cannot be."""
    unseen = bench.network.unseen
    if refusal:
        bench.notes.append(f"train mode was not checked ({refusal})")
        if unseen:
            bench.notes.append(f"{unseen[0]} is not used in eval mode: whether it follows a removal is not known")
        return bench
    if "train" not in bench.whole or (distance(bench.whole["eval"], bench.whole["train"]) == 0 and not unseen):
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


def without_hooks(model: nn.Module) -> nn.Module:
    """Remove all forward hooks from ``model``, in place, and return it."""
    for part in model.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return model


def telling(value: Any) -> Any:
    """Return an input in float64; where it is one number everywhere, which would hide everything, a random one."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()):
        return _random(value.shape, torch.Generator().manual_seed(0)).to(value.device)
    return value.double()


def _random(shape: Sequence[int], generator: torch.Generator, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Return uniform numbers of mean ``shift`` and deviation ``scale``: many times cheaper than normal ones.

    Of many numbers only the first million are drawn and then repeated; as that is a prime, no two channels are alike.
    """
    count = math.prod(shape)
    drawn = _drawn(min(count, _DRAWN), generator, scale, shift)
    if count > _DRAWN:
        drawn = drawn.repeat(-(-count // _DRAWN))[:count]
    return drawn.reshape(tuple(shape))


def _drawn(count: int, generator: torch.Generator, scale: float, shift: float) -> Tensor:
    reach = 3**0.5 * scale
    return torch.empty(count, dtype=torch.float64).uniform_(shift - reach, shift + reach, generator=generator)


def _weight(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random values for a parameter; those of a big one overlap in memory."""
    fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
    scale, shift = ((2.0 / fan_in) ** 0.5, 0.0) if fan_in > 1 else (0.3, 0.5)
    big = spread(tensor.shape, lambda count: _drawn(count, generator, scale, shift).to(tensor.device))
    return _random(tensor.shape, generator, scale, shift).to(tensor.device) if big is None else big


def _own(_: str, tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _randomised(model: nn.Module) -> nn.Module:
    """Return a float64 copy with random values that keep signals alive (He's scale) and channels distinguishable."""
    generator = torch.Generator().manual_seed(0)
    parameters = {name for name, _ in model.named_parameters()}
    norms = {name for name, part in model.named_modules() if isinstance(part, _NormBase)}

    def change(name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        part, _, own = name.rpartition(".")
        if name in parameters:
            return _weight(tensor, generator)
        if part in norms and own == "running_mean":
            value = _random(tensor.shape, generator, 0.3)
        elif part in norms and own == "running_var":
            value = _random(tensor.shape, generator, 0.1, 1.0)
        else:
            value = tensor.double()
        return value.to(tensor.device)

    return without_hooks(surgery.copy_with(model, change))


def batch_of(inputs: Any) -> int:
    """Return the first size of the first tensor, 0 if there is none."""
    sizes = [t.shape[0] for t in tree_leaves(inputs) if isinstance(t, Tensor) and t.ndim]
    return sizes[0] if sizes else 0


def rebatched(inputs: Any) -> Any:
    """Return random inputs like ``inputs`` with 2 images (3 if the example has 2)."""
    generator = torch.Generator().manual_seed(0)
    old = batch_of(inputs)
    new = 3 if old == 2 else 2

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        rows = torch.arange(new) % max(old, 1)
        wider = t[rows.to(t.device)] if t.ndim and t.shape[0] == old else t
        return _random(wider.shape, generator).to(wider) if wider.is_floating_point() else wider

    return tree_map(change, inputs)


def _has_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(part, _NormBase) for part in model.modules())


def _cost(inputs: Any, network: Network) -> float:
    """Return about how many multiply-accumulates one forward pass takes."""
    sizes = [sum(t.numel() for t in tree_leaves(x) if isinstance(t, Tensor)) for x in (inputs, network.example_inputs)]
    return network.macs() * sizes[0] / max(sizes[1], 1)


def _smaller(inputs: Any, network: Network) -> Any:
    """Return smaller images where ``inputs`` make the proof expensive, else ``None``."""
    scale = math.sqrt(_AFFORDABLE_MACS / max(_cost(inputs, network), 1))
    if scale >= 1:
        return None
    smallest = _SMALLEST_WITH_NORMS if _has_batch_norm(network.model) else _SMALLEST
    generator = torch.Generator().manual_seed(1)

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor) or not t.is_floating_point() or t.ndim < 4:
            return t
        sides = [min(s, max(smallest, math.ceil(s * scale / _GRANULE) * _GRANULE)) for s in t.shape[2:]]
        return _random([*t.shape[:2], *sides], generator).to(t.device) if sides != list(t.shape[2:]) else t

    smaller = tree_map(change, inputs)
    pairs = zip(tree_leaves(smaller), tree_leaves(inputs), strict=True)
    return smaller if any(a is not b for a, b in pairs) else None
