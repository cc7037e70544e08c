"""Puts the check together: trace, measure, forecast; nothing is trained. Called by ``netadapt check``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from netadapt.adaptation.limits import excess_noise, schedules
from netadapt.adaptation.metering import Metering
from netadapt.budget import Budget, format_quantity
from netadapt.check.costs import Row, metering_of, rows_of, take_measurements
from netadapt.check.forecast import Forecast, forecast
from netadapt.check.speed import measure_speed
from netadapt.errors import BudgetError, NetAdaptError
from netadapt.network import Network, Pinned, trace
from netadapt.platforms import Measurement, Platform
from netadapt.runs.settings import MeasureSection, SearchSection
from netadapt.training.task import Task

#: budgets of which the table says whether they can be reached, as parts of the original's latency
SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
_QUICK_SESSIONS = 3
_STEPS_PER_NOISE = 3

Tell = Callable[[str], None]


@dataclass(frozen=True)
class GroupRow:
    """A channel group as listed to the user.

    Attributes:
        name: of the group.
        layers: qualified names of what it touches.
        width: of the original.
        minimum: the narrowest that a search with default settings makes it.
        macs_share: part of the network's multiply-accumulates that go when it alone is at its minimum.
        inexact: why the values of what stays change with a removal; empty for an exact group.
        block: the residual block that is gone when no unit is left (`minimum` is 0 then); empty for none.
    """

    name: str
    layers: tuple[str, ...]
    width: int
    minimum: int
    macs_share: float
    inexact: str = ""
    block: str = ""


@dataclass(frozen=True)
class BudgetRow:
    """A budget on the latency: can a search with default settings reach it, and in how many steps.

    Attributes:
        budget: as a run takes it, e.g. ``50%``.
        latency_ms: what it comes to here.
        reachable: whether the smallest network is within it.
        iterations: steps of the default schedule; ``None`` if it is out of reach.
    """

    budget: str
    latency_ms: float
    reachable: bool
    iterations: int | None


@dataclass(frozen=True)
class Findings:
    """All that a check tells.

    Attributes:
        model: class of the network.
        inputs: shapes of the example input.
        macs, parameters: of the original.
        groups, pinned: what can be removed, and what cannot with the reason and the source line.
        pinned_share: part of the MACs, 0 to 1, that is in layers whose cost no group can change.
        measurement: of the original.
        smallest_step_ms: 3 times the half-width of a measurement; smaller savings cannot be told from none.
        floor: the smallest network that a search may build; ``None`` where nothing can be removed.
        budgets: on the latency.
        uniform: what uniform width gives at some factors.
        forecast: of the time that a run takes; ``None`` where it cannot be told.
        warnings: what the user should know or change.
    """

    model: str
    inputs: str
    macs: int
    parameters: int
    groups: tuple[GroupRow, ...]
    pinned: tuple[Pinned, ...]
    pinned_share: float
    measurement: Measurement
    smallest_step_ms: float
    floor: Row | None
    budgets: tuple[BudgetRow, ...]
    uniform: tuple[Row, ...]
    forecast: Forecast | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def check(
    model: nn.Module,
    example_inputs: Any,
    platform: Platform,
    *,
    task: Task | None = None,
    budget: str = "50%",
    keep: Sequence[str] = (),
    exact: bool = True,
    blocks: bool = False,
    quick: bool = False,
    tell: Tell = lambda what: None,
) -> Findings:
    """Look at a network on a platform; nothing is trained and nothing is changed.

    Args:
        model: trained network.
        example_inputs: tensor, tuple or dict; the deployment shape.
        platform: where it is measured.
        task: gives the number of images for the forecast, and real batches to time.
        budget: that the forecast is for.
        keep: modules (names or patterns) whose output channels must stay, as in `netadapt.trace`.
        exact: as in `netadapt.trace`.
        blocks: as in `netadapt.trace`.
        quick: fewer sessions and no forecast.
        tell: told what is being done.

    Raises:
        ModelError: the network cannot be traced, or ``keep`` names no module.
        PlatformError: the platform cannot run it.
        BudgetError: ``budget`` cannot be read or is of an unknown resource.
    """
    Budget.parse(budget)
    tell("tracing the network")
    network = trace(model, example_inputs, keep=keep, exact=exact, blocks=blocks)
    search = SearchSection()
    rows = rows_of(network, search)
    tell(f"measuring {len(rows) + 1} networks on {platform.name}")
    sessions = _QUICK_SESSIONS if quick else MeasureSection().sessions
    taken = take_measurements(network, platform, rows, sessions)
    metering = metering_of(network, platform, taken.original)
    metering.measure_longer(excess_noise(search, metering, ["latency"], metering.meter.initial))
    warnings = list(_warnings(taken.original))
    speed = None
    if not quick and rows:
        tell("timing forward and backward passes")
        try:
            speed = measure_speed(network, task)
        except (NetAdaptError, RuntimeError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.append(f"no forecast: a training step on a batch of images failed: {first}")
    foretold = None
    if speed is not None:
        try:
            _refuse_below_floor(metering, budget, taken.rows[0])
            foretold = forecast(metering, search, budget, taken, speed, task)
        except BudgetError as error:
            warnings.append(f"no forecast: {error}")
    return Findings(
        model=type(model).__name__,
        inputs=_shapes(example_inputs),
        macs=network.macs(),
        parameters=network.parameters(),
        groups=tuple(_groups(network, rows[0].widths if rows else {})),
        pinned=network.pinned,
        pinned_share=network.pinned_share,
        measurement=taken.original,
        smallest_step_ms=_STEPS_PER_NOISE * taken.original.half_width_ms,
        floor=taken.rows[0] if taken.rows else None,
        budgets=tuple(_budgets(metering, search, taken.rows)),
        uniform=taken.rows[1:],
        forecast=foretold,
        warnings=tuple(warnings),
    )


def _groups(network: Network, smallest: dict[str, int]) -> Sequence[GroupRow]:
    """Return one row per group; all counts in one vectorised call."""
    if not network.groups:
        return []
    vectors = np.tile(network.vector({}), (len(network.groups), 1))
    for row, group in enumerate(network.groups):
        vectors[row, row] = smallest[group.name]
    shares = 1 - network.macs_of(vectors) / network.macs()
    return [
        GroupRow(group.name, group.layers, group.width, smallest[group.name], float(share), group.inexact, group.block)
        for group, share in zip(network.groups, shares, strict=True)
    ]


def _budgets(metering: Metering, search: SearchSection, rows: Sequence[Row]) -> Sequence[BudgetRow]:
    initial = metering.meter.initial["latency"]
    found = []
    for share in SHARES if rows else ():
        limit = share * initial
        iterations = None
        if rows[0].latency_ms <= limit:
            schedule = schedules(search, metering, {"latency": limit}, metering.meter.initial)["latency"]
            iterations = schedule.iterations(initial - limit)
        found.append(BudgetRow(f"{100 * share:g}%", limit, iterations is not None, iterations))
    return found


def _refuse_below_floor(metering: Metering, budget: str, floor: Row) -> None:
    """Refuse a forecast for a budget that a run would refuse.

    Raises:
        BudgetError: the smallest network is above it.
    """
    least = {"latency": floor.latency_ms, "macs": float(floor.macs), "parameters": float(floor.parameters)}
    initial = {**metering.meter.initial, **metering.counted(metering.network.widths)}
    for name, limit in Budget.parse(budget).resolve(initial).items():
        if least.get(name, 0.0) > limit:
            raise BudgetError(
                f"the budget {budget} is {format_quantity(limit, name)}, below the floor of "
                f"{format_quantity(least[name], name)}; give a higher one with --budget"
            )


def _warnings(original: Measurement) -> Sequence[str]:
    """Return advice about the state of the machine; the tool itself changes no setting."""
    found = []
    seen = original.environment
    governor = seen.get("governor")
    if governor not in (None, "performance"):
        found.append(
            f"the processor's governor is '{governor}'; for steadier numbers: "
            "sudo cpupower frequency-set -g performance"
        )
    load, cores = seen.get("load_1_min"), seen.get("cores")
    if load is not None and cores is not None and load > cores / 2:
        found.append(f"other work is running (load {load:.1f} on {cores} cores); latencies are steadier without it")
    if original.verdict != "stable":
        found.append(f"the sessions of one network differ so much that the measurement is {original.verdict}")
    return found


def _shapes(inputs: Any) -> str:
    tensors = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]
    return ", ".join(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in tensors)
