"""What netadapt makes of one architecture: time, memory, groups, what is pinned, and a cut of every group by values."""

from __future__ import annotations

import contextlib
import copy
import resource
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from architectures import build
from torch import Tensor, nn

from netadapt.network import ChannelGroup, Network, trace
from netadapt.network.bench import outputs_of
from netadapt.network.surgery import mask_consumers

EXACT = 1e-9  # of the largest output, in double precision
ADAPTABLE = 0.5  # the pinned share of MACs up to which a network counts as adaptable


def ours(name: str, seed: int) -> dict[str, Any]:
    """Trace, cut all groups and compare with the masked original.

    Args:
        name: as of `architectures.names`.
        seed: of weights, input and kept units.

    Returns:
        ``trace_s``, ``export_s`` (processor seconds; of the whole trace and of torch.export in it), ``memory_mb`` (peak
        of the process up to the end of the trace, 10^6 bytes), ``weights_mb``, ``macs``, ``parameters``, ``side``,
        ``groups``, ``pinned_share``, ``reasons`` (of what is pinned, by share of MACs), ``notes`` of the proof,
        ``cut``, see `cut`, and where more than `ADAPTABLE` is pinned ``inexact``, see `inexact`; else ``None``.
    """
    model, example = build(name, seed)
    with _exports_timed() as exports:
        began = time.process_time()
        network = trace(model, example)
        trace_s = time.process_time() - began
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {
        "side": example.shape[-1],
        "trace_s": round(trace_s, 2),
        "export_s": round(sum(exports), 2),
        "memory_mb": round(memory_mb, 1),
        "weights_mb": round(sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6, 1),
        "macs": network.macs(),
        "parameters": network.parameters(),
        "groups": len(network.groups),
        "pinned_share": round(network.pinned_share, 4),
        "reasons": _reasons(network),
        "notes": list(network.proof.notes) if network.proof else [],
        "cut": cut(network, model, example, seed),
        "inexact": inexact(model, example, seed) if network.pinned_share > ADAPTABLE else None,
    }


def inexact(model: nn.Module, example: Tensor, seed: int) -> dict[str, Any]:
    """Trace with groups over which a norm takes its statistics, and cut them all.

    Values then differ from a masked original by nature; that they are the right ones, the proof of `trace` has found
    out with copies of units, in double precision.

    Returns:
        ``groups``, ``inexact_groups``, ``pinned_share`` and ``reasons`` as of `ours`; ``outcome``: ``runs``,
        ``nothing to cut``, ``wrong shape``, ``not finite`` or ``wrong count of parameters``.
    """
    network = trace(model, example, exact=False)
    return {
        "groups": len(network.groups),
        "inexact_groups": sum(bool(group.inexact) for group in network.groups),
        "pinned_share": round(network.pinned_share, 4),
        "reasons": _reasons(network),
        "outcome": _outcome_inexact(network, model, example, seed),
    }


def _outcome_inexact(network: Network, model: nn.Module, example: Tensor, seed: int) -> str:
    kept = _halves(network, seed)
    if not kept:
        return "nothing to cut"
    shrunk, wanted = network.shrink(kept), network.parameters({n: len(k) for n, k in kept.items()})
    if sum(p.numel() for p in shrunk.parameters()) != wanted:
        return "wrong count of parameters"
    got, whole = outputs_of(shrunk, example), outputs_of(model, example)
    if [t.shape for t in got] != [t.shape for t in whole]:
        return "wrong shape"
    return "runs" if all(bool(torch.isfinite(t).all()) for t in got) else "not finite"


@contextlib.contextmanager
def _exports_timed() -> Iterator[list[float]]:
    """Give a list to which every call of torch.export adds its processor seconds."""
    export, seconds = torch.export.export, []

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return export(*args, **kwargs)
        finally:
            seconds.append(time.process_time() - began)

    with patch.object(torch.export, "export", timed):
        yield seconds


def _reasons(network: Network, at_most: int = 4) -> list[dict[str, Any]]:
    """Return why layers are pinned whose cost no group can change, by share of the network's MACs."""
    pinned = {entry.layer: entry.text for entry in network.pinned}
    original = network.vector({})[None]
    shares: Counter[str] = Counter()
    for layer in network.layers:
        if layer.fixed:
            reason = pinned.get(layer.name.partition("#")[0], f"a {layer.operation} with no weight of its own")
            shares[reason] += int(layer.macs(original)[0])
    total = max(network.macs(), 1)
    return [{"reason": reason, "share": round(macs / total, 4)} for reason, macs in shares.most_common(at_most) if macs]


def cut(network: Network, model: nn.Module, example: Tensor, seed: int) -> dict[str, Any]:
    """Cut every group at once and compare, in double precision, with the original masked at the consumers.

    Args:
        network: traced from ``model``.
        model: whose weights are used.
        example: its input.
        seed: of the kept units; they are other ones than those of the proof inside `trace`.

    Returns:
        ``outcome``: ``nothing to cut``, ``equal``, ``wrong values``, ``wrong shape``, ``wrong count of parameters`` or
        the error; ``difference``: the largest one, relative to the largest output; ``effect``: of the masking itself.
    """
    if not network.groups:
        return {"outcome": "nothing to cut"}
    inputs = example.double()
    whole = outputs_of(copy.deepcopy(model).double(), inputs)
    kept = _halves(network, seed)
    masked = copy.deepcopy(model).double()
    mask_consumers(network, masked, kept)
    expected = outputs_of(masked, inputs)
    del masked  # of big networks two copies are enough at a time
    shrunk = network.shrink(kept)
    if sum(p.numel() for p in shrunk.parameters()) != network.parameters({n: len(k) for n, k in kept.items()}):
        return {"outcome": "wrong count of parameters"}
    got = outputs_of(shrunk.double(), inputs)
    if [t.shape for t in got] != [t.shape for t in whole]:
        return {"outcome": "wrong shape"}
    worst, effect = _relative(got, expected), _relative(expected, whole)
    outcome = "equal" if worst <= EXACT else "wrong values"
    return {"outcome": outcome, "difference": float(f"{worst:.3g}"), "effect": float(f"{effect:.3g}")}


def _halves(network: Network, seed: int) -> dict[str, list[int]]:
    """Return about half of the units of every group."""
    return {group.name: _kept(group, [seed, index]) for index, group in enumerate(network.groups)}


def _kept(group: ChannelGroup, seed: list[int]) -> list[int]:
    """Return about half of a group's units, as its constraints allow."""
    rng = np.random.default_rng(seed)
    count = max(group.minimum, group.multiple, group.width // 2 // group.multiple * group.multiple)
    return sorted(rng.choice(group.width, min(count, group.width), replace=False).tolist())


def _relative(got: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference relative to the largest value of each output; infinite if not a number."""
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        gap, scale = float((a - b).abs().max()), float(b.abs().max())
        worst = max(worst, gap / max(scale, 1e-300) if np.isfinite([gap, scale]).all() else 1e300)
    return worst
