"""Quantities with units and budgets over them; the only place that parses a unit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from netadapt.errors import BudgetError, did_you_mean

#: canonical unit of each resource, in which every bare number of netadapt is given
UNITS: Mapping[str, str] = {
    "latency": "ms",
    "energy": "mJ",
    "memory": "MB",
    "size": "MB",
    "macs": "MAC",
    "parameters": "parameters",
}

_SCALES: Mapping[str, tuple[str, float]] = {
    "ns": ("latency", 1e-6),
    "us": ("latency", 1e-3),
    "µs": ("latency", 1e-3),
    "ms": ("latency", 1.0),
    "s": ("latency", 1e3),
    "uj": ("energy", 1e-3),
    "mj": ("energy", 1.0),
    "j": ("energy", 1e3),
    "kb": ("memory", 1e-3),
    "mb": ("memory", 1.0),
    "gb": ("memory", 1e3),
    "mac": ("macs", 1.0),
    "macs": ("macs", 1.0),
    "kmac": ("macs", 1e3),
    "kmacs": ("macs", 1e3),
    "mmac": ("macs", 1e6),
    "mmacs": ("macs", 1e6),
    "gmac": ("macs", 1e9),
    "gmacs": ("macs", 1e9),
    "k": ("parameters", 1e3),
    "m": ("parameters", 1e6),
    "g": ("parameters", 1e9),
    "parameters": ("parameters", 1.0),
    "params": ("parameters", 1.0),
}

_PATTERN = re.compile(
    r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*(%|[A-Za-zµ]*)\s*(parameters|params)?\s*"
)
_EXAMPLES = '"8 ms", "50%", "40 MMAC", "2 M" parameters, "40 MB", "3 mJ"'


@dataclass(frozen=True)
class Limit:
    """An upper limit on one resource.

    Attributes:
        resource: a key of `UNITS`.
        value: in the canonical unit, or a fraction of the start where ``relative``.
        relative: whether ``value`` is a fraction of the start.
    """

    resource: str
    value: float
    relative: bool = False

    def __str__(self) -> str:
        """Return e.g. ``latency <= 8 ms``."""
        amount = f"{100 * self.value:g}%" if self.relative else format_quantity(self.value, self.resource)
        return f"{self.resource} <= {amount}"


@dataclass(frozen=True)
class Budget:
    """Limits on one or several resources."""

    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, given: str | Budget | Mapping[str, str]) -> Budget:
        """Read a budget.

        Args:
            given: ``"8 ms"``, ``"50%"`` (of the latency), ``{"latency": "50%", "parameters": "2 M"}``, or a Budget.

        Raises:
            BudgetError: no unit, an unknown resource, or not positive.
        """
        if isinstance(given, Budget):
            return given
        if isinstance(given, str):
            return cls((parse_limit(given),))
        if not given:
            raise BudgetError(f"Budget: no limit given; give at least one, e.g. {_EXAMPLES}.")
        return cls(tuple(parse_limit(str(text), resource) for resource, text in given.items()))

    def resolve(self, initial: Mapping[str, float]) -> dict[str, float]:
        """Return each resource's limit in its canonical unit.

        Args:
            initial: what the original network costs, by resource, in canonical units.

        Raises:
            BudgetError: a resource that this platform does not measure, or a limit that the start already meets
                in every resource.
        """
        limits: dict[str, float] = {}
        for limit in self.limits:
            if limit.resource not in initial:
                raise BudgetError(
                    f"Budget: {limit.resource} is not measured on this platform; it gives {', '.join(initial)}. "
                    f"Budget one of these, or choose another platform (netadapt ls platforms)."
                )
            value = limit.value * initial[limit.resource] if limit.relative else limit.value
            limits[limit.resource] = min(value, limits.get(limit.resource, value))
        if all(limits[name] >= initial[name] for name in limits):
            have = ", ".join(f"{name} {format_quantity(initial[name], name)}" for name in limits)
            raise BudgetError(
                f"Budget: {'; '.join(map(str, self.limits))} is met by the original network already ({have}). "
                f"Give a lower budget, e.g. 50%."
            )
        return limits


def parse_limit(text: str, resource: str | None = None) -> Limit:
    """Read one limit such as ``"8 ms"`` or ``"50%"``.

    Args:
        text: a number with a unit.
        resource: which resource it limits; by default what the unit says, latency for a percentage.

    Raises:
        BudgetError: no unit, an unknown unit or resource, or not positive.
    """
    if resource is not None and resource not in UNITS:
        hint = did_you_mean(resource, list(UNITS))
        raise BudgetError(f'Budget: unknown resource "{resource}"{hint}; known are {", ".join(UNITS)}.')
    match = _PATTERN.fullmatch(text)
    if not match:
        raise BudgetError(f'Budget: cannot read "{text}"; write a number with a unit, e.g. {_EXAMPLES}.')
    number, unit = float(match[1]), match[2]
    if number <= 0:
        raise BudgetError(f'Budget: "{text}" is not positive; write e.g. {_EXAMPLES}.')
    if unit == "%":
        return Limit(resource or "latency", number / 100, relative=True)
    if not unit and not match[3]:
        raise BudgetError(f'Budget: "{text}" has no unit. {number:g} what? Write e.g. {_EXAMPLES}.')
    if (unit or match[3]).lower() not in _SCALES:
        raise BudgetError(f'Budget: unknown unit "{unit}" in "{text}"; write e.g. {_EXAMPLES}.')
    measured, scale = _SCALES[(unit or match[3]).lower()]
    if resource == "size" and measured == "memory":
        measured = "size"
    if resource in ("macs", "parameters") and unit.lower() in ("k", "m", "g"):
        measured = resource
    if resource not in (None, measured):
        raise BudgetError(
            f'Budget: {resource} = "{text}" has a unit of {measured}; {resource} is counted in {UNITS[str(resource)]}.'
        )
    return Limit(measured, number * scale)


def format_quantity(value: float, resource: str) -> str:
    """Return ``value`` (canonical unit of ``resource``) for people, e.g. ``3.21 ms`` or ``41.5 MMAC``."""
    if resource in ("macs", "parameters"):
        suffix = "MAC" if resource == "macs" else " parameters"
        for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if value >= scale:
                return f"{value / scale:.3g} {prefix}{suffix.strip() if resource == 'macs' else suffix}"
        return f"{value:g} {suffix.strip()}"
    return f"{value:.3g} {UNITS[resource]}"
