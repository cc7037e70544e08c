"""What a run may not spend: budgets in canonical units, the floor under them, and the steps towards them.

`adaptation.py` calls it after the original network was measured and before anything is trained.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from netadapt.adaptation.metering import Metering
from netadapt.budget import Budget, format_quantity, parse_limit
from netadapt.errors import BudgetError, MeasurementUnusable
from netadapt.models import resolve_model
from netadapt.network import Network
from netadapt.proposals import allowed_widths
from netadapt.runs.settings import BudgetSection, SearchSection
from netadapt.schedule import Schedule

log = logging.getLogger("netadapt")

#: half-width of an interval, relative to the value, from which on it says nothing about a budget
TOO_NOISY = 0.25


def resolve_budget(section: BudgetSection, metering: Metering, initial: Mapping[str, float]) -> dict[str, float]:
    """Return the limits in canonical units; ``latency_of`` is measured beside the original.

    Args:
        section: ``[budget]``.
        metering: of the run.
        initial: what the original costs, by resource.

    Raises:
        BudgetError: above the start, or of a resource that the platform does not measure.
    """
    limits = section.limits()
    if section.latency_of is not None:
        limits["latency"] = f"{_latency_of(section.latency_of, metering)} ms"
    return Budget.parse(limits).resolve(initial)


def _latency_of(source: str, metering: Metering) -> float:
    """Return the latency of another MODEL on the scale of the original's."""
    protocol = replace(metering.protocol, sessions=2 * metering.protocol.sessions)
    (measurement,) = metering.meter.measure_models([resolve_model(source)], protocol)
    return metering.meter.values_of(measurement)["latency"]


def smallest_widths(network: Network, search: SearchSection) -> dict[str, int]:
    """Return the narrowest network that the search may build."""
    smallest = {}
    for group in network.groups:
        allowed = allowed_widths(group, group.width, search.multiple, search.minimum_width)
        smallest[group.name] = int(allowed[0]) if len(allowed) else group.width
    return smallest


def measure_floor(
    metering: Metering, search: SearchSection, budget: Mapping[str, float], initial: Mapping[str, float]
) -> dict[str, float]:
    """Return what the smallest network costs, by resource.

    Args:
        metering: of the run.
        search: multiple and minimum width.
        budget: limits in canonical units.
        initial: what the original costs.

    Raises:
        BudgetError: nothing can be removed, or a limit lies below the floor or within a measurement's noise of it:
            the last step aims that far below its budget.
    """
    network = metering.network
    smallest = smallest_widths(network, search)
    if smallest == network.widths:
        reasons = "\n  ".join(f"{pinned.layer}: {pinned.text}" for pinned in network.pinned[:5])
        offered = any(pinned.statistic for pinned in network.pinned)
        more = " --inexact, and exact = false under [model]." if offered else "."
        raise BudgetError(f"No channel of this network can be removed:\n  {reasons}\nSee: netadapt check MODEL{more}")
    (floor,) = metering.measure_widths(np.array([network.vector(smallest)]))
    margin = margins(metering, budget, initial)
    for name, limit in budget.items():
        if floor[name] > limit - margin[name]:
            surely = f" Measurements of it are known to ±{margin[name] / limit:.1%}." if margin[name] else ""
            raise BudgetError(
                f"Budget: {name} {format_quantity(limit, name)} cannot be reached on {metering.meter.platform.name}. "
                f"The smallest network, every group at its minimum, needs {format_quantity(floor[name], name)} "
                f"({floor[name] / initial[name]:.0%} of the original).{surely} Give a budget above "
                f"{format_quantity(floor[name] + margin[name], name)}, or lower search.minimum_width "
                f"(now {search.minimum_width})."
            )
    return floor


def schedules(
    search: SearchSection, metering: Metering, budget: Mapping[str, float], initial: Mapping[str, float]
) -> dict[str, Schedule]:
    """Return dR of every budgeted resource; a schedule that could not arrive is stretched, and told.

    Args:
        search: first step, decay and smallest step.
        metering: knows the noise.
        budget: limits in canonical units.
        initial: what the original costs.
    """
    found = {}
    for name, limit in budget.items():
        planned = _planned(search, name, metering, initial)
        found[name] = planned.reaching(initial[name] - limit)
        _tell(name, planned, found[name])
    return found


def excess_noise(
    search: SearchSection, metering: Metering, budgeted: Iterable[str], initial: Mapping[str, float]
) -> float:
    """Return how many times too noisy a measurement is for the first step that was asked for; 0 where none can be.

    Args:
        search: first and smallest step.
        metering: knows the noise.
        budgeted: resources.
        initial: what the original costs.
    """
    if "noise" not in search.min_step:
        return 0.0
    return _raised([_planned(search, name, metering, initial) for name in budgeted])


def refuse_noise(metering: Metering, budget: Mapping[str, float]) -> None:
    """Refuse a budget of what cannot be measured well enough to say whether it is met.

    Raises:
        MeasurementUnusable: the half-width of an interval is `TOO_NOISY` of the value or more.
    """
    for name in budget:
        if (noise := metering.noise.get(name, 0.0)) >= TOO_NOISY:
            raise MeasurementUnusable(
                f"{metering.meter.platform.name}: with {metering.protocol.sessions} sessions {name} is known to "
                f"±{noise:.0%} only, and a budget needs ±{TOO_NOISY:.0%}. Stop other work on the device, or give more "
                f"sessions (measure.sessions) or longer ones (measure.seconds)."
            )


def margins(metering: Metering, budget: Mapping[str, float], initial: Mapping[str, float]) -> dict[str, float]:
    """Return by resource how far below its budget the last step aims: the noise of a measurement there.

    Never more than a quarter of the way from the original to the budget: a noisy device must not turn a budget into
    another one.
    """
    return {
        name: min(metering.noise.get(name, 0.0) * limit, (initial[name] - limit) / 4) for name, limit in budget.items()
    }


def groups_per_step(search: SearchSection, schedules: Mapping[str, Schedule]) -> int:
    """Return how many groups share a step: where noise has raised the steps, one group alone would be cut to the bone.

    Args:
        search: as asked for; only the fast mode of ``netadapt`` shares steps.
        schedules: as they came out, by resource.
    """
    if (search.method, search.mode) != ("netadapt", "fast"):
        return search.groups_per_step
    return max(search.groups_per_step, math.ceil(_raised(schedules.values())))


def _raised(schedules: Iterable[Schedule]) -> float:
    """Return how many times its first step the smallest step of a schedule is, at most."""
    return max(schedule.minimum / schedule.first_step for schedule in schedules)


def _planned(search: SearchSection, name: str, metering: Metering, initial: Mapping[str, float]) -> Schedule:
    """Return the schedule of a resource as it was asked for; a first step with a unit is the same share of all."""
    first = parse_limit(search.first_step)
    share = first.value if first.relative else first.value / initial[first.resource]
    return Schedule(share * initial[name], search.decay, _smallest_step(search, name, metering, initial))


def _smallest_step(search: SearchSection, name: str, metering: Metering, initial: Mapping[str, float]) -> float:
    """Return the smallest honest step of a resource; a counted resource has no noise."""
    if "noise" in search.min_step:
        return float(search.min_step.split("noise")[0]) * metering.noise.get(name, 0.0) * initial[name]
    limit = parse_limit(search.min_step)
    if limit.relative:
        return limit.value * initial[name]
    return limit.value if limit.resource == name else 0.0


def _tell(name: str, planned: Schedule, schedule: Schedule) -> None:
    first, total = format_quantity(planned.first_step, name), format_quantity(planned.total(), name)
    if schedule is not planned:
        log.warning(
            "%s: steps of %s x %g^i add up to %s only, which cannot reach the budget; the first step is now %s",
            name,
            first,
            planned.decay,
            total,
            format_quantity(schedule.first_step, name),
        )
    if schedule.first_step < schedule.minimum:
        smallest = format_quantity(schedule.minimum, name)
        log.warning("%s: steps are raised to %s; smaller ones cannot be told from noise here", name, smallest)
