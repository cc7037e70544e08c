"""The table of rules, the decorator that fills it, and its public face for operations of a user's own."""

from __future__ import annotations

import re
from collections.abc import Callable

from netadapt.errors import UsageError
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


def register_rule(name: str, *, kind: Kind | None = None) -> Callable[[Rule], Rule]:
    """Tell how channels go through an operation that netadapt does not know; use it as a decorator.

    The function gets the call as a `netadapt.network.Operation` and returns the labels of the result: of the result's
    shape, or a list of them where there are several. Every group that rests on it is still proved by values.

    Args:
        name: of a custom operation, ``library::operation`` as in ``torch.library.custom_op``, or of an ATen operation,
            e.g. ``cummax``. A rule that exists is replaced.
        kind: record the operation as a layer of this kind, e.g. ``elementwise``; ``None`` if it costs next to nothing
            or the rule calls ``op.cost`` itself.

    Raises:
        UsageError: ``name`` is no name of an operation.
    """
    if not re.fullmatch(r"(\w+::)?\w+", name):
        raise UsageError(
            f"cannot register a rule for {name!r}: give the operation without its overload, "
            'as "library::operation" (torch.library.custom_op) or, for one of ATen, "operation"'
        )
    return rule(name.removeprefix("aten::"), kind=kind)
