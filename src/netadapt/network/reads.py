"""Which attributes of modules a forward pass reads: only those are worth trying out as sizes that follow a removal.

Called by `Network.prove` before it rehearses (`followers.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from netadapt.network.bench import Bench
from netadapt.network.followers import Options


def read_by(bench: Bench, options: Options) -> Options:
    """Return the options of attributes that the bench's model reads in eval mode; all where it cannot be watched."""
    with contextlib.suppress(Exception), _noted(bench.model, options) as seen:
        bench.outputs(bench.model, "eval")
        kinds = {name: type(bench.network.model.get_submodule(name)) for name in options}
        return {
            name: {size: forms for size, forms in sizes.items() if (kinds[name], size[0]) in seen}
            for name, sizes in options.items()
        }
    return options


@contextlib.contextmanager
def _noted(module: nn.Module, names: Iterable[str]) -> Iterator[set[tuple[type, str]]]:
    """Note for a while which attributes of the parts ``names`` are read, by class."""
    seen: set[tuple[type, str]] = set()
    watched: dict[type, type] = {}
    parts = {part: type(part) for part in map(module.get_submodule, names)}
    try:
        for part, kind in parts.items():
            if kind not in watched:
                watched[kind] = _watched(kind, seen)
            part.__class__ = watched[kind]
        yield seen
    finally:
        for part, kind in parts.items():
            part.__class__ = kind


def _watched(kind: Any, seen: set[tuple[type, str]]) -> type:
    """Return a subclass that adds to ``seen`` what is read."""

    def read(self: Any, name: str) -> Any:
        seen.add((kind, name))
        return kind.__getattribute__(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": read, "__module__": kind.__module__})
