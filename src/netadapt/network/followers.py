"""Sizes in attributes that follow a removal although nobody registered a fixer: `self.num_heads`, `self.splits`, ...

A `forward` that says ``x.view(n, -1, self.num_heads, self.head_dim)`` still works on fewer heads if ``num_heads``
follows. Candidates are the whole numbers, alone or in tuples and lists, of the module that ran an operation that equal
a size which changes there; whether they are what `forward` uses, the proof by values decides. Called by
`propagation.py`, `network.py` and `prove.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from netadapt.network.attributes import Size, may_follow, sizes_in
from netadapt.network.groups import Grouping, kin
from netadapt.network.labels import compact
from netadapt.network.prove import Failure
from netadapt.network.structure import LinearForm

Layouts = dict[str, dict[Size, list[Tensor]]]  # module -> size -> labels, the dimension of that size in front
Options = dict[str, dict[Size, list[LinearForm]]]  # module -> size -> what it may follow
Choice = dict[tuple[type, Size], int | None]  # class and size -> which of them (default: the first), None: stays
Followers = dict[str, dict[Size, LinearForm]]

_MOST_TRIALS = 24


def sizes_of(module: nn.Module) -> dict[Size, int]:
    """Return the sizes in public attributes of a module whose class nobody registered a fixer for."""
    return {
        (key, place): size
        for key, value in vars(module).items()
        if may_follow(module, key)
        for place, size in enumerate(sizes_in(value))
        if size > 1
    }


def remember(layouts: Layouts, name: str, model: nn.Module, values: Sequence[Tensor]) -> None:
    """Note which attributes of a module equal sizes along which units lie in the labels ``values`` of a call in it."""
    sizes = sizes_of(model.get_submodule(name))
    for small in map(compact, values if sizes else ()):
        for dim in [d for d, size in enumerate(small.shape) if size > 1]:
            for key in [key for key, value in sizes.items() if value == small.shape[dim]]:
                layout = small.movedim(dim, 0).flatten(1) if small.ndim > 1 else small[:, None]
                known = layouts.setdefault(name, {}).setdefault(key, [])
                if not any(layout.shape == other.shape and bool((layout == other).all()) for other in known):
                    known.append(layout)


def options(layouts: Layouts, grouping: Grouping) -> Options:
    """Return the forms, as functions of the widths, that the sizes behind ``layouts`` have."""
    result: Options = {}
    for name, attributes in layouts.items():
        for key, found in attributes.items():
            forms = [form for layout in found if (form := _form(layout.numpy(), grouping)) is not None]
            distinct = {(f.constant, f.coefficients.tobytes()): f for f in forms}
            if distinct:
                result.setdefault(name, {})[key] = list(distinct.values())
    return result


def _form(layout: NDArray[np.int64], grouping: Grouping) -> LinearForm | None:
    """Return how many places along the first dimension remain; a place goes with its unit if it is all that unit's."""
    group = np.where(layout >= 0, grouping.group_of[layout], -1)
    unit = np.where(layout >= 0, grouping.unit_of[layout], -1)
    whole = (group[:, 0] >= 0) & (group == group[:, :1]).all(1) & (unit == unit[:, :1]).all(1)
    if not whole.any():
        return None
    widths = np.array([g.width for g in grouping.groups], dtype=np.int64)
    counts = np.bincount(group[whole, 0], minlength=len(widths)).astype(np.int64)
    return LinearForm(int((~whole).sum()), counts // widths)


def followers(found: Options, choice: Choice, model: nn.Module) -> Followers:
    """Return what every attribute follows under ``choice``."""
    result: Followers = {}
    for name, attributes in found.items():
        for key, forms in attributes.items():
            index = choice.get((type(model.get_submodule(name)), key), 0)
            if index is not None and index < len(forms):
                result.setdefault(name, {})[key] = forms[index]
    return result


def concerned(found: Options, group: int) -> list[str]:
    """Return the modules with attributes that a group's width concerns; those of all others stay as they are."""
    return [
        name
        for name, attributes in found.items()
        if any(form.coefficients[group] for forms in attributes.values() for form in forms)
    ]


def alternatives(found: Options, group: int, model: nn.Module) -> Iterator[Choice]:
    """Iterate over what the attributes that a group's width concerns may follow: most of them first, at last none."""
    keys: dict[tuple[type, Size], int] = {}
    for name, attributes in found.items():
        for key, forms in attributes.items():
            if any(form.coefficients[group] for form in forms):
                own = (type(model.get_submodule(name)), key)
                keys[own] = max(keys.get(own, 0), len(forms))
    each: list[Sequence[int | None]] = [[*range(count), None] for count in keys.values()]
    trials = sorted(itertools.product(*each), key=lambda picks: sum(pick is None for pick in picks))
    for picks in trials[:_MOST_TRIALS]:
        yield dict(zip(keys, picks, strict=True))


def rehearse(
    found: Options,
    groups: Sequence[str],
    model: nn.Module,
    failure: Callable[[str, Choice], tuple[Failure | None, set[tuple[type, str]]]],
) -> tuple[Choice, dict[str, Failure]]:
    """Try one group of each kind with everything that its attributes may follow.

    Args:
        found: the candidates.
        groups: names of all groups, in the order of the forms' coefficients.
        model: the original.
        failure: tells why a group cannot be cut under a choice, ``None`` if it can, and which attributes were read.

    Returns:
        What the attributes follow, and for groups of which nothing works (and their kin) why.
    """
    decided: Choice = {}
    refused: dict[tuple[str, ...], Failure] = {}
    tried: set[tuple[str, ...]] = set()
    for index, name in enumerate(groups):
        trials = [{**trial, **decided} for trial in alternatives(found, index, model)]
        if len(trials) < 2 or kin(name) in tried:
            continue
        tried.add(kin(name))
        failed: list[Choice] = []
        for trial in trials:
            if any(part.items() <= trial.items() for part in failed):
                continue  # it differs from one that failed in what that one did not look at
            why, read = failure(name, trial)
            failed.append({key: pick for key, pick in trial.items() if (key[0], key[1][0]) in read})
            if why is None:
                decided = {**decided, **trial}
                break
            refused.setdefault(kin(name), why)  # what is in the way although attributes follow
        else:
            continue
        refused.pop(kin(name), None)
    return decided, {name: refused[kin(name)] for name in groups if kin(name) in refused}
