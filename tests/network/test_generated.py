"""What netadapt removes from random networks is exact, what it counts is right, and it removes what can be removed.

The masked original is made here, by zeros in what sums over the removed units; nothing of surgery or proof is used.
`python -c "from generated_networks import generate; print(generate(17)[0])"` shows the network of a seed.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from generated_networks import Net, generate
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import netadapt.network
from netadapt.network import AxisUse, Network, trace

Kept = dict[str, list[int]]

EXACT = 1e-5  # of the largest output
SETS = 10
QUICK, ALL = 200, 2000


@pytest.mark.parametrize("seed", range(QUICK))
def test_generated_networks_are_cut_exactly(seed, tmp_path):
    check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_more_generated_networks_are_cut_exactly(seed, tmp_path):
    check(seed, tmp_path)


def check(seed: int, folder) -> None:
    net, inputs = generate(seed)
    network = trace(net, inputs)
    where = f"generated network {seed}:\n{net!r}"
    check_that_what_can_go_is_in_groups(network, where)
    rng = random.Random(seed)
    whole, seen = outputs_of(net, inputs), False
    reference = Reference(network)
    for number in range(SETS):
        kept = draw_kept(network, rng)
        what = f"keeping {kept} in {where}"
        small = network.shrink(kept)
        seen |= check_values(reference, small, kept, inputs, whole, what)
        check_counts(network, small, kept, inputs, what)
        if number == 0:
            check_steps(network, kept, rng, what)
            check_gradients(network, small, inputs, what)
        if number == 1 and seed % 4 == 0:
            check_saved(network, small, generate(seed)[0], inputs, folder, what)
    assert seen or not network.groups, f"no removal changed the outputs of {where}"
    check_blocks(network, rng, seed, inputs, folder, where)
    assert same(outputs_of(net, inputs), whole), f"the original was changed: {where}"


def draw_kept(network: Network, rng: random.Random) -> Kept:
    """Keep a random number of random units of every group, often all or as few as can be."""
    kept = {}
    for group in network.groups:
        counts = [n for n in range(group.minimum, group.width + 1) if n % group.multiple == 0] or [group.width]
        count = rng.choice([counts[0], group.width, rng.choice(counts), rng.choice(counts)])
        kept[group.name] = sorted(rng.sample(range(group.width), count))
    return kept


class Reference:
    """The original with some units masked, made by nothing but zeros: one module, changed in place and restored."""

    def __init__(self, network: Network) -> None:
        self.groups, self.module = network.groups, copy.deepcopy(network.model)
        self.tensors = dict(self.module.named_parameters()) | dict(self.module.named_buffers())
        self.originals = {name: t.detach().clone() for name, t in self.tensors.items()}

    def gone(self, kept: Kept, *, consumed: bool) -> Iterator[tuple[AxisUse, Tensor]]:
        """Iterate over (use, entries) of the units that are not kept: where they are summed over, or elsewhere."""
        for group in self.groups:
            gone = [unit for unit in range(group.width) if unit not in kept[group.name]]
            for use in group.axes if gone else ():
                if (use.role == "input") == consumed:
                    yield use, torch.from_numpy(use.indices[gone].reshape(-1))

    @torch.no_grad()
    def mask(self, kept: Kept) -> nn.Module:
        """Return the original with zeros in every weight where it sums over a removed unit, and in blocks that go."""
        for name, tensor in self.tensors.items():
            tensor.copy_(self.originals[name])
        for use, entries in self.gone(kept, consumed=True):
            self.tensors[use.tensor].index_fill_(use.axis, entries, 0.0)
        for group in self.groups:
            if not kept[group.name]:
                for parameter in self.module.get_submodule(group.block).parameters():
                    parameter.zero_()
        return self.module

    @torch.no_grad()
    def disturb(self, kept: Kept) -> nn.Module:
        """Return the masked original with other numbers wherever a removed unit is computed, scaled or normalised."""
        self.mask(kept)
        generator = torch.Generator().manual_seed(0)
        for use, entries in self.gone(kept, consumed=False):
            held = self.tensors[use.tensor]
            part = held.index_select(use.axis, entries)
            noise = torch.rand(part.shape, generator=generator, dtype=part.dtype) + 0.5
            held.index_copy_(use.axis, entries, part * noise + (0.0 if "running_var" in use.tensor else noise))
        return self.module


def outputs_of(module: nn.Module, inputs: Any, *, training: bool = False, grad: bool = False) -> list[Tensor]:
    """Return all output tensors; dropout is off, everything else in the asked mode."""
    module.train(training)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    with torch.set_grad_enabled(grad):
        if isinstance(inputs, Mapping):
            result = module(**inputs)
        else:
            result = module(*inputs) if isinstance(inputs, tuple) else module(inputs)
    module.eval()
    return tree_leaves(result)


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(map(torch.equal, a, b))


def assert_same(expected: list[Tensor], got: list[Tensor], what: str) -> None:
    assert [t.shape for t in expected] == [t.shape for t in got], what
    for a, b in zip(expected, got, strict=True):
        scale = max(float(a.abs().max()), 1e-6)
        gap = float((a - b).abs().max())
        assert gap <= EXACT * scale, f"outputs differ by {gap:.3g} at values up to {scale:.3g}; {what}"


def check_values(reference: Reference, small: nn.Module, kept: Kept, inputs, whole, what: str) -> bool:
    """Compare in eval mode, in train mode, and again in eval mode with the statistics of the train mode."""
    masked, expected, modes = reference.mask(kept), [], (False, True, False)
    small = copy.deepcopy(small)
    for training in modes:
        expected.append(outputs_of(masked, inputs, training=training))
        got = outputs_of(small, inputs, training=training)
        assert_same(expected[-1], got, f"shrunk and masked, training={training}, {what}")
    disturbed = reference.disturb(kept)
    for training, values in zip(modes[:2], expected, strict=False):
        got = outputs_of(disturbed, inputs, training=training)
        assert_same(values, got, f"removed units still reach the outputs, training={training}, {what}")
    return not same(expected[0], whole)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Switch off fused attention, whose products torch's counter does not see."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def check_counts(network: Network, small: nn.Module, kept: Kept, inputs: Any, what: str) -> None:
    """Compare the algebra with torch's own counter, which sees every product that is really computed."""
    widths = {name: len(units) for name, units in kept.items()}
    assert network.widths_of(small) == widths, what
    assert network.kept_of(small) == {name: tuple(units) for name, units in kept.items()}, what
    assert network.parameters(widths) == sum(p.numel() for p in small.parameters()), what
    with plain_attention(), FlopCounterMode(display=False) as counter:
        outputs_of(small, inputs)
    macs = counter.get_total_flops() // 2
    assert network.macs(widths) == macs, f"{network.macs(widths)} MACs by the algebra, {macs} by torch; {what}"
    blocks = tuple(group.block + "." for group in network.groups if not kept[group.name])
    left = [name for name in network.model.state_dict() if not name.startswith(blocks)]
    assert list(small.state_dict()) == left, what


def check_steps(network: Network, kept: Kept, rng: random.Random, what: str) -> None:
    """Removing in two steps gives the weights of removing at once."""
    first = {}
    for group in network.groups:
        rest = [u for u in range(group.width) if u not in kept[group.name]]
        more = [n for n in range(len(rest) + 1) if (n + len(kept[group.name])) % group.multiple == 0] or [len(rest)]
        first[group.name] = sorted(kept[group.name] + rng.sample(rest, rng.choice(more)))
    once, twice = network.shrink(kept), network.shrink(kept, network.shrink(first))
    for (name, a), b in zip(once.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(a, b), f"{name} depends on the steps; {what}"
    assert network.kept_of(twice) == network.kept_of(once), what


def check_gradients(network: Network, small: nn.Module, inputs: Any, what: str) -> None:
    """Every parameter that learns in the original learns in the shrunk network."""
    learns = []
    for module in (copy.deepcopy(network.model), copy.deepcopy(small)):
        outputs = outputs_of(module, inputs, training=True, grad=True)
        torch.stack([t.sum() for t in outputs]).sum().backward()
        learns.append({name for name, p in module.named_parameters() if p.grad is not None})
    assert learns[0] == learns[1], what


def check_saved(network: Network, small: nn.Module, fresh: Net, inputs: Any, folder, what: str) -> None:
    """A saved network is the same network, built from the user's class."""
    netadapt.network.save(small, network, folder)
    loaded = netadapt.network.load(folder, fresh)
    assert same(outputs_of(loaded, inputs), outputs_of(small, inputs)), what
    assert network.kept_of(loaded) == network.kept_of(small), what


def check_blocks(network: Network, rng: random.Random, seed: int, inputs: Any, folder, where: str) -> None:
    """Whole blocks go as exactly as units do: what is left is the original with all of their parameters zero."""
    network.offer_blocks()
    able = [group.name for group in network.groups if group.block]
    for _ in range(2 if able else 0):
        kept = draw_kept(network, rng)
        for name in rng.sample(able, rng.randint(1, len(able))):
            kept[name] = []
        what = f"keeping {kept} in {where}"
        small = network.shrink(kept)
        masked = Reference(network).mask(kept)
        for training in (False, True):
            expected = outputs_of(copy.deepcopy(masked), inputs, training=training)
            assert_same(expected, outputs_of(copy.deepcopy(small), inputs, training=training), what)
        check_counts(network, small, kept, inputs, what)
        if seed % 4 == 0:
            check_saved(network, small, generate(seed)[0], inputs, folder, what)


def check_that_what_can_go_is_in_groups(network: Network, where: str) -> None:
    """No layer is pinned that the blocks say nothing holds."""
    found: dict[tuple[str, int], set[int]] = {}
    for group in network.groups:
        for use in group.axes:
            found.setdefault((use.tensor, use.axis), set()).update(use.indices.reshape(-1).tolist())
    names = {id(p): name for name, p in network.model.named_parameters()}
    for weight, axis in network.model.flow().demanded():
        name = names[id(weight)]
        missing = set(range(weight.shape[axis])) - found.get((name, axis), set())
        reasons = "".join(f"\n  {p.layer}: {p.reason}" for p in network.pinned)
        assert not missing, f"channels {sorted(missing)} of {name} cannot be removed; pinned:{reasons}\nin {where}"
