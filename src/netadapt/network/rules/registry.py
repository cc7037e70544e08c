"""The table of rules and the decorator that fills it."""

from __future__ import annotations

from collections.abc import Callable

from netadapt.network.operation import Rule
from netadapt.network.structure import Kind

RULES: dict[str, tuple[Rule, Kind | None]] = {}


def rule(names: str, *, kind: Kind | None = None) -> Callable[[Rule], Rule]:
    """Register the decorated function for the ATen operations ``names``.

    Args:
        names: without overload and in-place underscore, separated by blanks.
        kind: record the operation as a layer of this kind; ``None`` if it is free or records itself.
    """

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names.split(), (function, kind)))
        return function

    return register
