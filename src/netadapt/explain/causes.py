"""Judges layers: did one get faster as its work shrank, and if not, what explains the time that it lost.

Pure functions of times and of the network's algebra. Each cause says how many milliseconds it can account for; the one
that accounts for most of what was lost is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netadapt.explain.naming import owners
from netadapt.explain.record import Cause, Row, Side
from netadapt.network.structure import Layer, LinearForm
from netadapt.platforms.environment import whole_vectors

if TYPE_CHECKING:
    from netadapt.network import Network

BYTES = 4
UNCHANGED = 0.999  # a ratio of work above this is none
LAGS = 0.25  # share of the hoped-for saving that may be missing before a layer is said to lag
SLIGHT = 0.02  # of a layer's time: no smaller loss is looked into
HALF = 0.5  # share of the loss that causes must account for; of its arithmetic's time, from which memory may bind


@dataclass(frozen=True)
class LayerTime:
    """What one layer takes in one network.

    Attributes:
        latency_ms: all its operations.
        spread_ms: half the interquartile range over the profiles.
        reorder_ms: the part of it that only rearranges memory.
        kernel: the runtime's word for its longest operation; empty where nobody told.
    """

    latency_ms: float
    spread_ms: float = 0.0
    reorder_ms: float = 0.0
    kernel: str = ""


@dataclass(frozen=True)
class Work:
    """What a layer has to do at some widths.

    Attributes:
        inputs, outputs: channels.
        macs: multiply-accumulates.
        padded: the same with channels rounded up to whole vectors.
        bytes: read and written.
    """

    inputs: int
    outputs: int
    macs: int
    padded: int
    bytes: int


@dataclass(frozen=True)
class _Machine:
    """What the platform is capable of: ``per_mac`` and ``per_byte`` are the least milliseconds seen."""

    overhead_ms: float
    vector: int
    per_mac: float
    per_byte: float


def judge(
    network: Network,
    widths: Mapping[str, int],
    before: Mapping[str, LayerTime],
    after: Mapping[str, LayerTime],
    *,
    vector: int,
    overhead_ms: float,
) -> tuple[Row, ...]:
    """Return a row for every layer that has a time.

    Args:
        network: the original.
        widths: of the smaller network; groups not named keep theirs.
        before: times by layer in the original network.
        after: the same in the smaller network.
        vector: channels that the platform computes at once.
        overhead_ms: fixed cost of a call.
    """
    original, smaller = network.vector({}), network.vector(widths)
    told = [layer for layer in rows_of(network.layers) if layer.name in before or layer.name in after]
    works = [(_work(layer, original, vector), _work(layer, smaller, vector)) for layer in told]
    times = [(before.get(layer.name, LayerTime(0.0)), after.get(layer.name, LayerTime(0.0))) for layer in told]
    pins = _pins(network)
    unchanged = [_unchanged(layer, pins[layer.name]) for layer in told]
    names = [layer.name for layer in told]
    return judge_works(names, works, times, unchanged, vector=vector, overhead_ms=overhead_ms)


def judge_works(
    names: Sequence[str],
    works: Sequence[tuple[Work, Work]],
    times: Sequence[tuple[LayerTime, LayerTime]],
    unchanged: Sequence[tuple[Cause, str]],
    *,
    vector: int,
    overhead_ms: float,
) -> tuple[Row, ...]:
    """Return a row for every layer.

    Args:
        names: of the layers.
        works: of each, before and after.
        times: of each, before and after.
        unchanged: what is said of each where its work stayed the same and so did its time.
        vector: channels that the platform computes at once.
        overhead_ms: fixed cost of a call.
    """
    machine = _machine([w for pair in works for w in pair], [t for pair in times for t in pair], vector, overhead_ms)
    return tuple(_row(*each, machine) for each in zip(names, works, times, unchanged, strict=True))


def rows_of(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers that get a row of their own, in order of execution."""
    owner = owners(layers)
    return [layer for layer in layers if owner[layer.name] == layer.name]


def _pins(network: Network) -> dict[str, str]:
    """Return why each layer cannot be narrowed: its own pin, or the last one before it; empty where there is none."""
    own, last, found = {pin.layer: pin.text for pin in network.pinned}, "", {}
    for layer in network.layers:
        name = layer.name.partition("#")[0]
        if name in own:
            last = f"no channel group changes its work; kept whole before it: {name}, {own[name]}"
        found[layer.name] = own.get(name, last)
    return found


def _work(layer: Layer, vector: np.ndarray, step: int) -> Work:
    if not layer.there(vector[None])[0]:
        return Work(0, 0, 0, 0, 0)
    inputs, outputs, fan_in = (int(form(vector)) for form in (layer.inputs, layer.outputs, layer.fan_in))
    activations = inputs * int(np.prod(layer.input_size)) + outputs * int(np.prod(layer.output_size))
    weights = 0 if layer.kind == "product" else outputs * fan_in * int(np.prod(layer.kernel))
    padded = _computed(outputs, layer.outputs, step) * _computed(fan_in, layer.fan_in, step) * layer.area
    return Work(inputs, outputs, outputs * fan_in * layer.area, padded, BYTES * (activations * layer.batch + weights))


def _computed(count: int, form: LinearForm, step: int) -> int:
    """Return the channels that are computed: those that widths change come in whole vectors."""
    return whole_vectors(count, step) if np.any(form.coefficients) else count


def _machine(works: Sequence[Work], times: Sequence[LayerTime], vector: int, overhead_ms: float) -> _Machine:
    """Return what the platform reached at best, in layers that take much longer than a call costs."""
    long = [(w, t.latency_ms) for w, t in zip(works, times, strict=True) if t.latency_ms > 3 * overhead_ms and w.bytes]
    per_mac = min((ms / work.macs for work, ms in long if work.macs), default=0.0)
    return _Machine(overhead_ms, vector, per_mac, min((ms / work.bytes for work, ms in long), default=0.0))


def _row(
    name: str,
    works: tuple[Work, Work],
    times: tuple[LayerTime, LayerTime],
    unchanged: tuple[Cause, str],
    machine: _Machine,
) -> Row:
    ratio = _ratio(works)
    lost = times[1].latency_ms - times[0].latency_ms * ratio
    in_both = all(work.bytes for work in works)
    cause, reason = _cause(works, times, unchanged, machine, lost) if in_both else ("", "")
    before, after = (_side(work, time) for work, time in zip(works, times, strict=True))
    spread = max(time.spread_ms for time in times)
    return Row(layer=name, before=before, after=after, spread_ms=spread, lost_ms=lost, cause=cause, reason=reason)


def _ratio(works: tuple[Work, Work]) -> float:
    """Return how much of its work a layer still has: by MACs, or by bytes where it has none."""
    first, second = (work.macs or work.bytes for work in works)
    return second / first if first else 1.0


def _side(work: Work, time: LayerTime) -> Side:
    return Side(
        inputs=work.inputs,
        outputs=work.outputs,
        macs=work.macs,
        latency_ms=time.latency_ms,
        reorder_ms=time.reorder_ms,
        kernel=time.kernel,
    )


def _cause(
    works: tuple[Work, Work],
    times: tuple[LayerTime, LayerTime],
    unchanged: tuple[Cause, str],
    machine: _Machine,
    lost: float,
) -> tuple[Cause, str]:
    """Return why a layer lost ``lost`` milliseconds, and the sentence that says so."""
    before, ratio = times[0].latency_ms, _ratio(works)
    spread = max(time.spread_ms for time in times)
    same = ratio > UNCHANGED
    if lost <= max(LAGS * (1 - ratio) * before, SLIGHT * before) or (same and lost <= 2 * spread):
        return unchanged if same else ("", "")
    if lost <= 2 * spread:
        return "within noise", f"the {lost:.2g} ms that it lost are within twice the spread of the profiles"
    causes = [
        _layout(times, ratio, lost),
        _plateau(works, before, ratio, machine),
        _overhead(times, ratio, machine),
        _memory(works, before, ratio, machine),
    ]
    if sum(amount for amount, _, _ in causes) < HALF * lost:
        if same:
            return "unexplained", f"its work is the same, and yet it takes {lost:.2g} ms longer"
        return "unexplained", f"width, overhead, layout and memory do not account for the {lost:.2g} ms that it lost"
    _, cause, reason = max(causes, key=lambda item: item[0])
    return cause, reason


_Candidate = tuple[float, Cause, str]  # milliseconds that it accounts for, and how it is told


def _unchanged(layer: Layer, pin: str) -> tuple[Cause, str]:
    if layer.fixed:
        return "pinned", pin or "no channel group changes its work"
    return "kept", "the search kept its channels"


def _layout(times: tuple[LayerTime, LayerTime], ratio: float, lost: float) -> _Candidate:
    """Account for another kernel, or for memory that is rearranged for it."""
    first, second = times
    moved = second.reorder_ms - ratio * first.reorder_ms
    if _kernel(first) and _kernel(second) and _kernel(first) != _kernel(second):
        return max(lost, moved), "layout change", f"the runtime computes it with {second.kernel}, before {first.kernel}"
    what = f"rearranging memory for it takes {second.reorder_ms:.2g} ms, before {first.reorder_ms:.2g}"
    return max(moved, 0.0), "layout change", what


def _kernel(time: LayerTime) -> str:
    """Return the kernel's name without what only says that an activation is computed with it."""
    return time.kernel.removeprefix("Fused")


def _plateau(works: tuple[Work, Work], before: float, ratio: float, machine: _Machine) -> _Candidate:
    """Account for channels being computed in whole vectors, the last of which is not full."""
    first, second = works
    amount = before * max(second.padded / first.padded - ratio, 0.0) if first.padded else 0.0
    counts = f"{second.inputs} to {second.outputs} channels"
    return amount, "plateau", f"{counts} cost as much as the next multiples of {machine.vector}"


def _overhead(times: tuple[LayerTime, LayerTime], ratio: float, machine: _Machine) -> _Candidate:
    """Account for what a call costs whatever its size."""
    amount = min(machine.overhead_ms, times[0].latency_ms) * (1 - ratio)
    share = f"{times[1].latency_ms:.2g} ms, of which about {machine.overhead_ms:.2g} are the fixed cost of a call"
    return amount, "overhead-bound", f"it takes {share}"


def _memory(works: tuple[Work, Work], before: float, ratio: float, machine: _Machine) -> _Candidate:
    """Account for waiting for memory, where it moves more than its share of what it moved before."""
    first, second = works
    bound = second.bytes * machine.per_byte > HALF * second.macs * machine.per_mac
    moved = second.bytes / first.bytes if first.bytes else ratio
    reason = f"it still moves {100 * moved:.0f} % of its bytes for {100 * ratio:.0f} % of its arithmetic"
    return (before * max(moved - ratio, 0.0) if bound else 0.0), "memory-bound", reason
