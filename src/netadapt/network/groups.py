"""From tied atoms to channel groups: connected components, equal patterns, names, and what is pinned and why.

Called by `network.py` after the propagation and again whenever the proof pins more.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netadapt.network.labels import Atoms, Slot
from netadapt.network.operation import Propagation
from netadapt.network.splits import components, settle
from netadapt.network.structure import AxisUse, ChannelGroup, Pinned

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """What the ties amount to.

    Attributes:
        groups: in order of execution.
        pinned: once per layer, in order of execution.
        group_of, unit_of: ``(atoms,)``, -1 for atoms that cannot be removed.
    """

    groups: tuple[ChannelGroup, ...]
    pinned: tuple[Pinned, ...]
    group_of: Ints
    unit_of: Ints


def layer_of(tensor: str) -> str:
    """Return the qualified name of the module that owns a tensor."""
    return tensor.rpartition(".")[0]


def build_groups(found: Propagation) -> Grouping:
    """Solve the ties and sort the free units into groups.

    Args:
        found: the result of the propagation, with all pins known so far.
    """
    component, stuck = _components(found.atoms)
    members = _patterns(found, component, stuck)
    group_of, unit_of = np.full(len(component), -1), np.full(len(component), -1)
    for index, mine in enumerate(members):
        units = np.full(len(stuck), -1)
        units[mine] = np.arange(len(mine))
        inside = units[component] >= 0
        group_of[inside], unit_of[inside] = index, units[component][inside]
    names = _names(found.atoms.slots, group_of, len(members))
    groups = tuple(_group(i, names[i], found.atoms.slots, group_of, unit_of) for i in range(len(members)))
    return Grouping(groups, _pinned(found.atoms, component, group_of), group_of, unit_of)


def _components(atoms: Atoms) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the component of every atom, numbered in order of the smallest atom, and by component whether it stays."""
    none = np.empty(0, dtype=np.int64)
    left, right = (np.concatenate([none, *side]) for side in zip((none, none), *atoms.edges, strict=True))
    component = components(atoms.count, left, right)
    stuck = np.zeros(component.max(initial=-1) + 1, dtype=bool)
    for pin in atoms.pins:
        stuck[component[pin.atoms]] = True
    return settle(atoms, component, stuck)


def _patterns(found: Propagation, component: Ints, stuck: NDArray[np.bool_]) -> list[Ints]:
    """Return the components of every group: free, computed by some layer, and all used in the same places.

    The places are the axes of parameters and the channels of every layer, so that each count is linear in the width.
    """
    slots = found.atoms.slots
    places = [np.arange(s.start, s.start + s.size) for s in slots]
    for layer in found.layers:
        places += [v.numpy()[v.numpy() >= 0] for v in (layer.inputs, layer.outputs)]
    place = np.repeat(np.arange(len(places)), [len(p) for p in places])
    of = component[np.concatenate(places)] if places else np.empty(0, dtype=np.int64)
    produced = np.zeros(len(stuck), dtype=bool)
    for slot in slots:
        if slot.role == "output":
            produced[component[slot.start : slot.start + slot.size]] = True
    free = produced[of] & ~stuck[of]
    keys, counts = np.unique(np.stack([of[free], place[free]]), axis=1, return_counts=True)
    patterns: defaultdict[bytes, list[int]] = defaultdict(list)
    bounds = np.flatnonzero(np.diff(keys[0], prepend=-1, append=-1)) if keys.size else np.empty(0, dtype=np.int64)
    for begin, end in itertools.pairwise(bounds):
        pattern = np.stack([keys[1, begin:end], counts[begin:end]]).tobytes()
        patterns[pattern].append(int(keys[0, begin]))
    wide = [np.array(components) for components in patterns.values() if len(components) > 1]
    return sorted(wide, key=lambda components: _position(slots, component, components))


def _position(slots: list[Slot], component: Ints, components: Ints) -> tuple[int, int]:
    """Order groups by the first layer that produces them, then by their first unit."""
    for index, slot in enumerate(slots):
        if slot.role == "output" and np.isin(component[slot.start : slot.start + slot.size], components).any():
            return index, int(components[0])
    raise AssertionError("a group without a producer")


def _names(slots: list[Slot], group_of: Ints, count: int) -> list[str]:
    """Name every group after its first producer; the second of the same layer gets ``:1``, and so on."""
    names: dict[int, str] = {}
    seen: Counter[str] = Counter()
    for slot in slots:
        if slot.role != "output":
            continue
        for group in sorted(set(group_of[slot.start : slot.start + slot.size].tolist()) - {-1} - names.keys()):
            base = layer_of(slot.tensor) or slot.tensor
            names[group] = base if seen[base] == 0 else f"{base}:{seen[base]}"
            seen[base] += 1
    return [names[i] for i in range(count)]


def _group(index: int, name: str, slots: list[Slot], group_of: Ints, unit_of: Ints) -> ChannelGroup:
    axes, layers = [], []
    for slot in slots:
        mine = np.flatnonzero(group_of[slot.start : slot.start + slot.size] == index)
        if mine.size:
            order = np.argsort(unit_of[slot.start + mine], kind="stable")
            width = int(unit_of[slot.start + mine].max()) + 1
            axes.append(AxisUse(slot.tensor, slot.axis, mine[order].reshape(width, -1), slot.role))
            layers.append(layer_of(slot.tensor))
    return ChannelGroup(name, len(axes[0].indices), tuple(dict.fromkeys(layers)), tuple(axes))


def _pinned(atoms: Atoms, component: Ints, group_of: Ints) -> tuple[Pinned, ...]:
    """Tell for every layer some of whose output channels stay, the most informative reason."""
    reasons: dict[int, tuple[int, int, str, str]] = {}
    for order, pin in enumerate(atoms.pins):
        for c in np.unique(component[pin.atoms]).tolist():
            reasons[c] = min(reasons.get(c, (99, 0, "", "")), (pin.rank, order, pin.reason, pin.where))
    single = (98, 0, "all its channels can only be removed together", "")
    pinned: dict[str, Pinned] = {}
    for slot in atoms.slots:
        own = np.arange(slot.start, slot.start + slot.size)
        fixed = own[group_of[own] < 0]
        layer = layer_of(slot.tensor) or slot.tensor
        if slot.role != "output" or not fixed.size or layer in pinned:
            continue
        *_, reason, where = min(reasons.get(c, single) for c in np.unique(component[fixed]).tolist())
        part = "" if len(fixed) == slot.size else f"{len(fixed)} of its {slot.size} channels: "
        pinned[layer] = Pinned(layer, part + reason, where)
    return tuple(pinned.values())
