"""From tied atoms to channel groups: connected components, equal patterns, names, and what is pinned and why.

Called by `network.py` after the propagation and again whenever the proof pins more.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
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
    slots = found.atoms.slots
    component, stuck = _components(found.atoms)
    members = _patterns(found, component, stuck)
    group_of_component, unit_of_component = np.full(len(stuck), -1), np.full(len(stuck), -1)
    for index, mine in enumerate(members):
        group_of_component[mine], unit_of_component[mine] = index, np.arange(len(mine))
    group_of, unit_of = group_of_component[component], unit_of_component[component]
    uses = _uses(slots, group_of, unit_of, [len(mine) for mine in members])
    mixed = _mixed(found.atoms, component)
    groups = tuple(
        ChannelGroup(
            name,
            len(mine),
            tuple(dict.fromkeys(layer_of(use.tensor) for use in axes)),
            tuple(axes),
            inexact=next((mixed[c] for c in mine.tolist() if c in mixed), ""),
        )
        for name, mine, axes in zip(_names(uses), members, uses, strict=True)
    )
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
    keys, counts = np.unique(of[free] * len(places) + place[free], return_counts=True)
    owner, where = np.divmod(keys, max(len(places), 1))
    patterns: defaultdict[bytes, list[int]] = defaultdict(list)
    bounds = np.flatnonzero(np.diff(owner, prepend=-1, append=-1)) if keys.size else np.empty(0, dtype=np.int64)
    places_used = np.stack([where, counts], axis=1)
    for begin, end in itertools.pairwise(bounds.tolist()):
        patterns[places_used[begin:end].tobytes()].append(int(owner[begin]))
    wide = [np.array(components) for components in patterns.values() if len(components) > 1]
    first = _first_producers(slots, component, len(stuck))
    return sorted(wide, key=lambda components: (int(first[components].min()), int(components[0])))


def _first_producers(slots: list[Slot], component: Ints, count: int) -> Ints:
    """Return for every component the number of the first slot that produces it: groups stand in this order."""
    first = np.full(count, len(slots))
    for index in reversed(range(len(slots))):
        slot = slots[index]
        if slot.role == "output":
            first[component[slot.start : slot.start + slot.size]] = index
    return first


def _uses(slots: list[Slot], group_of: Ints, unit_of: Ints, widths: Sequence[int]) -> list[list[AxisUse]]:
    """Return for every group where its units are, in order of the slots."""
    uses: list[list[AxisUse]] = [[] for _ in widths]
    for slot in slots:
        own = slice(slot.start, slot.start + slot.size)
        for index in np.unique(group_of[own]).tolist():
            if index >= 0:
                mine = np.flatnonzero(group_of[own] == index)
                order = np.argsort(unit_of[own][mine], kind="stable")
                units = mine[order].reshape(widths[index], -1)
                uses[index].append(AxisUse(slot.tensor, slot.axis, units, slot.role))
    return uses


def _mixed(atoms: Atoms, component: Ints) -> dict[int, str]:
    """Return by component why its removal changes the values of others, where it does."""
    reasons: dict[int, str] = {}
    for note in atoms.mixed:
        text = f"{note.reason} ({note.where})" if note.where else note.reason
        for c in np.unique(component[note.atoms]).tolist():
            reasons.setdefault(c, text)
    return reasons


def _names(uses: Sequence[Sequence[AxisUse]]) -> list[str]:
    """Name every group after its first producer; the second of the same layer gets ``:1``, and so on."""
    seen: Counter[str] = Counter()
    names = []
    for axes in uses:
        tensor = next(use.tensor for use in axes if use.role == "output")
        base = layer_of(tensor) or tensor
        names.append(base if seen[base] == 0 else f"{base}:{seen[base]}")
        seen[base] += 1
    return names


def _pinned(atoms: Atoms, component: Ints, group_of: Ints) -> tuple[Pinned, ...]:
    """Tell for every layer some of whose output channels stay, the most informative reason."""
    reasons: dict[int, tuple[int, int, str, str, bool]] = {}
    for order, pin in enumerate(atoms.pins):
        for c in np.unique(component[pin.atoms]).tolist():
            mine = (pin.rank, order, pin.reason, pin.where, pin.statistic)
            reasons[c] = min(reasons.get(c, (99, 0, "", "", False)), mine)
    single = (98, 0, "all its channels can only be removed together", "", False)
    pinned: dict[str, Pinned] = {}
    for slot in atoms.slots:
        own = np.arange(slot.start, slot.start + slot.size)
        fixed = own[group_of[own] < 0]
        layer = layer_of(slot.tensor) or slot.tensor
        if slot.role != "output" or not fixed.size or layer in pinned:
            continue
        *_, reason, where, statistic = min(reasons.get(c, single) for c in np.unique(component[fixed]).tolist())
        part = "" if len(fixed) == slot.size else f"{len(fixed)} of its {slot.size} channels: "
        pinned[layer] = Pinned(layer, part + reason, where, statistic)
    return tuple(pinned.values())


def kin(name: str) -> tuple[str, ...]:
    """Return what the names of corresponding layers in repeated blocks have in common."""
    return tuple("#" if part.isdigit() else part for part in name.split("."))
