"""Measures many networks in shuffled rounds of fresh sessions, relative to sentinels (DESIGN section 8).

A session differs from the next by a few percent whatever its length, and machines drift: so there are several rounds,
each visiting every network once in another order with the sentinels in between, and more of them in a noisy hour.
Called by `meter.py`, `layer_table.py` and `verify.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.base import Artifact, Platform, Reading
from netadapt.platforms.conditions import waited
from netadapt.platforms.lock import measuring_lock
from netadapt.platforms.statistics import SHARED, half_widths, session_level
from netadapt.platforms.stopwatch import run_session
from netadapt.resources.patience import patiently

_log = logging.getLogger("netadapt")
Floats = NDArray[np.float64]
_UNUSABLE = 0.25  # spread of the sentinel's sessions above which nothing can be decided


@dataclass(frozen=True)
class RoundsProtocol:
    """How often and how long.

    Attributes:
        rounds: sessions per network, at least.
        most: sessions per network, at most but never fewer than ``rounds``: rounds go on while latencies are less sure
            than ``half_width``.
        half_width: half the 95 % confidence interval that is narrow enough, relative, of the typical network.
        seconds: length of a session's timed part.
        warmups: inferences before it.
        sentinel_every: one session of a sentinel per so many networks of a round; each sentinel has at least one.
    """

    rounds: int = 3
    most: int = 9
    half_width: float = 0.01
    seconds: float = 0.05
    warmups: int = 3
    sentinel_every: int = 6


@dataclass(frozen=True)
class Rounds:
    """What the sessions gave, by resource.

    Attributes:
        networks: each ``(rounds, networks)`` in the resource's unit.
        sentinels: each ``(rounds, sentinel sessions per round)``; of several sentinels they take turns.
        kinds: how many sentinels there are.
        waited: median share of the time in which sessions had no core, ``None`` where nobody tells.
    """

    networks: dict[str, Floats]
    sentinels: dict[str, Floats]
    kinds: int = 1
    waited: float | None = None

    def levels(self, resource: str, rounds: slice = slice(None)) -> tuple[Floats, Floats]:
        """Return what the networks take, ``(networks,)``, and the sentinels, ``(kinds,)``, without drift.

        Args:
            resource: which.
            rounds: use only these.
        """
        networks, sentinels = self.networks[resource][rounds], self.sentinels[resource][rounds]
        steady = _steady(np.concatenate([networks, sentinels], axis=1))
        count = networks.shape[1]
        own = [np.median(steady[:, count + kind :: self.kinds]) for kind in range(self.kinds)]
        return np.median(steady[:, :count], axis=0), np.array(own)

    def ratios(self, rounds: slice = slice(None)) -> dict[str, Floats]:
        """Return each network relative to the first sentinel, ``(networks,)`` by resource.

        Args:
            rounds: use only these.
        """
        return {name: _ratios(*self.levels(name, rounds)) for name in self.networks}

    def spread(self, resource: str = "latency") -> float:
        """Return the first sentinel's interquartile range relative to its median."""
        low, middle, high = np.percentile(self.sentinels[resource][:, :: self.kinds], [25, 50, 75])
        return float((high - low) / middle)

    def half_width(self, resource: str = "latency") -> float:
        """Return half the 95 % confidence interval of the typical network, relative."""
        everything = np.concatenate([self.networks[resource], self.sentinels[resource]], axis=1)
        return float(np.median(half_widths(_steady(everything).T)))


def measure_rounds(
    platform: Platform,
    artifacts: Sequence[Artifact],
    sentinels: Sequence[Artifact],
    protocol: RoundsProtocol,
    seed: int,
) -> Rounds:
    """Measure ``artifacts`` in shuffled rounds.

    Args:
        platform: where.
        artifacts: the compiled networks.
        sentinels: what all are compared to, the main one first.
        protocol: how often and how long.
        seed: of the order.

    Raises:
        MeasurementUnusable: others hold the measuring lock, or the main sentinel's sessions differ by more than
            25 % among themselves, three times in a row.
        PlatformError: the platform says that it measures a resource but gives no value.
    """
    exclusive = getattr(platform, "exclusive", True)  # a simulated device leaves this machine alone
    with measuring_lock.hold(platform.name) if exclusive else nullcontext():
        rounds = patiently(
            lambda attempt: _measure(platform, artifacts, sentinels, protocol, seed + attempt), _usable, platform.name
        )
    if _usable(rounds):
        if (rounds.waited or 0.0) >= SHARED:
            _log.warning(
                "%s: others had the core for %.0f %% of the time that %d networks were measured; stop them",
                platform.name,
                100 * (rounds.waited or 0.0),
                len(artifacts),
            )
        return rounds
    raise MeasurementUnusable(
        f"{platform.name}: sessions of one network differ by {rounds.spread():.0%} (interquartile range); up to "
        f"{_UNUSABLE:.0%} can be used. Stop other work on the device, let it cool, or fix its clock, and repeat."
    )


def _usable(rounds: Rounds) -> bool:
    return "latency" not in rounds.sentinels or rounds.spread() <= _UNUSABLE


def _measure(
    platform: Platform,
    artifacts: Sequence[Artifact],
    sentinels: Sequence[Artifact],
    protocol: RoundsProtocol,
    seed: int,
) -> Rounds:
    """Visit every network once a round, until enough is known; indices from ``len(artifacts)`` on are sentinels."""
    random, kinds = np.random.default_rng(seed), len(sentinels)
    turns = max(kinds, -(-len(artifacts) // protocol.sentinel_every))
    everything = [*artifacts, *(sentinels[turn % kinds] for turn in range(turns))]
    count = len(artifacts)
    found: list[dict[str, Floats]] = []
    readings: list[Reading] = []
    while True:
        row = {name: np.empty(len(everything)) for name in platform.resources}
        for column in _order(random, count, protocol.sentinel_every, turns):
            reading = run_session(platform, everything[column], seconds=protocol.seconds, warmups=protocol.warmups)
            readings.append(reading)
            for name, values in row.items():
                values[column] = _value(reading, name, platform.name)
        found.append(row)
        tables = {name: np.array([row[name] for row in found]) for name in platform.resources}
        networks = {name: table[:, :count] for name, table in tables.items()}
        sentinel_tables = {name: table[:, count:] for name, table in tables.items()}
        rounds = Rounds(networks, sentinel_tables, kinds, waited(readings))
        if len(found) >= protocol.rounds and _enough(rounds, len(found), protocol):
            return rounds


def _enough(rounds: Rounds, taken: int, protocol: RoundsProtocol) -> bool:
    """Tell whether more rounds are not allowed, not needed, or hopeless."""
    if taken >= protocol.most or "latency" not in rounds.networks:
        return True
    return not _usable(rounds) or rounds.half_width() <= protocol.half_width


def _order(random: np.random.Generator, count: int, every: int, turns: int) -> list[int]:
    """Return the networks shuffled, with a sentinel's index before each ``every`` of them, others anywhere."""
    order: list[int] = []
    for position, index in enumerate(random.permutation(count)):
        if position % every == 0:
            order.append(count + position // every)
        order.append(int(index))
    for index in range(count + -(-count // every), count + turns):
        order.insert(int(random.integers(len(order) + 1)), index)
    return order


def _value(reading: Reading, resource: str, platform: str) -> float:
    latency = session_level(reading.latency_ms) if reading.latency_ms else None
    known = {"latency": latency, "energy": reading.energy_mj, "memory": reading.memory_mb}
    value = known.get(resource)
    if value is None or not np.isfinite(value) or (resource == "latency" and value <= 0):
        raise PlatformError(
            f"{platform} says that it measures {resource} but a session gave {value}. "
            f"Leave {resource} out of the budget, or mend the platform."
        )
    return value


def _steady(values: Floats) -> Floats:
    """Return ``(rounds, sessions)`` with each round divided by its median ratio to the other rounds."""
    usual = np.median(values, axis=0)
    pace = np.median(values / np.where(usual > 0, usual, 1.0), axis=1, keepdims=True)
    return np.asarray(values / np.where(pace > 0, pace, 1.0))


def _ratios(networks: Floats, sentinels: Floats) -> Floats:
    if sentinels[0] <= 0:
        raise MeasurementUnusable("The original network measures as zero; choose a larger one or other resources.")
    return np.asarray(np.maximum(networks / sentinels[0], 1e-3))
