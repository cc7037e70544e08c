"""Which attributes of modules a forward pass reads: what fails without a look at one fails whatever that one follows.

Called by `Network.prove` when it rehearses (`followers.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from netadapt.network.bench import Bench

Reads = set[tuple[type, str]]  # class and name


@dataclass
class Watching(Bench):
    """A bench that notes which attributes are read.

    Attributes:
        parts: qualified names of the modules that are watched.
        seen: what was read so far.
    """

    parts: Iterable[str] = ()
    seen: Reads = field(default_factory=set)

    def outputs(self, module: nn.Module, mode: str) -> list[Tensor]:
        """Return the outputs of a version of the model."""
        with _noted([module.get_submodule(name) for name in self.parts], self.seen):
            return super().outputs(module, mode)


@contextlib.contextmanager
def _noted(parts: Iterable[nn.Module], seen: Reads) -> Iterator[None]:
    """Add to ``seen`` for a while what is read of ``parts``; all that there is where a class cannot be watched."""
    watched: dict[type, type] = {}
    kinds = {part: type(part) for part in parts}
    try:
        for part, kind in kinds.items():
            if kind not in watched:
                watched[kind] = _watched(kind, seen)
            try:
                part.__class__ = watched[kind]
            except TypeError:
                seen.update((kind, name) for name in vars(part))
        yield
    finally:
        for part, kind in kinds.items():
            part.__class__ = kind


def _watched(kind: Any, seen: Reads) -> type:
    """Return a subclass that adds to ``seen`` what is read."""

    def read(self: Any, name: str) -> Any:
        seen.add((kind, name))
        return kind.__getattribute__(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": read, "__module__": kind.__module__})
