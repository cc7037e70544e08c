"""What the machine did while a window of measurements lasted: slowed down, grew hot, was shared with others.

`stopwatch.py` writes it into the environment of the measurements and warns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from netadapt.platforms.base import Reading
from netadapt.platforms.busy import BusyProcess
from netadapt.platforms.statistics import SHARED

_log = logging.getLogger("netadapt")

Trend = Literal["steady", "slowing down", "throttled", "speeding up"]
_SLOWER = 0.03  # from first to last round; less than that the sentinel takes out well
_LEVEL = 0.05  # of the test against chance
_HOTTER_C = 5.0
_CLOCK = 0.95  # of the clock before the window


def pace(levels: NDArray[np.float64], sentinel: int | None) -> NDArray[np.float64]:
    """Return how long things took in each round relative to the window, ``(rounds,)``.

    Args:
        levels: ``(networks, rounds)``, latencies of the sessions.
        sentinel: row of the network that speaks for all; without one their median does.
    """
    relative = levels / np.median(levels, axis=1, keepdims=True)
    return np.asarray(np.median(relative, axis=0) if sentinel is None else relative[sentinel])


def trend(pace: NDArray[np.float64], before: Mapping[str, Any], after: Mapping[str, Any]) -> Trend:
    """Return a word for what the pace of a window did.

    ``slowing down`` and ``speeding up`` where the rounds rise or fall by more than 3 % in all and in an order that
    chance gives once in twenty times; ``throttled`` where the machine slowed down and its temperature rose by 5 degrees
    or its clock fell by 5 % meanwhile. Fewer than 4 rounds are always ``steady``: any order of them may be chance.

    Args:
        pace: ``(rounds,)`` in order of time.
        before: snapshot of the machine at the window's beginning.
        after: the same at its end.
    """
    if len(pace) < 4 or not kendalltau(np.arange(len(pace)), pace).pvalue / 2 < _LEVEL:
        return "steady"
    ends = max(1, len(pace) // 3)
    change = float(np.median(pace[-ends:]) / np.median(pace[:ends]) - 1)
    if abs(change) <= _SLOWER:
        return "steady"
    if change < 0:
        return "speeding up"
    cool, hot = _both("temperature_c", before, after)
    fast, slow = _both("frequency_mhz", before, after)
    return "throttled" if hot - cool >= _HOTTER_C or 0 < slow < _CLOCK * fast else "slowing down"


def _both(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[float, float]:
    """Return a number of both snapshots; zeros unless both have it: what a device says of itself may be anything."""
    first, last = (snapshot.get(key) for snapshot in (before, after))
    if isinstance(first, int | float) and isinstance(last, int | float):
        return float(first), float(last)
    return 0.0, 0.0


def waited(readings: Sequence[Reading]) -> float | None:
    """Return the median share of the time that sessions had no core, ``None`` where nobody tells."""
    known = [reading.waited for reading in readings if reading.waited is not None]
    return float(np.median(known)) if known else None


def describe(
    platform: str,
    word: Trend,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    share: float | None,
    busy: Sequence[BusyProcess] | None,
) -> dict[str, Any]:
    """Return the environment of a window, and warn of what may have spoilt it.

    Args:
        platform: for the warning.
        word: from `trend`.
        before: snapshot of the machine at the window's beginning.
        after: the same at its end.
        share: of the time in which sessions had no core.
        busy: other programs; ``None`` where nobody looked, of which nothing is recorded.
    """
    changing = ("load_1_min", "temperature_c", "frequency_mhz")
    seen: dict[str, Any] = {**before, **{f"{key}_after": after[key] for key in changing if key in after}}
    seen["trend"] = word
    if busy is not None:
        seen |= {"busy": [asdict(process) for process in busy], "busy_count": len(busy)}
    if share is not None:
        seen["waited"] = share
    names = ", ".join(f"{process.name} ({process.cores:.0%} of a core)" for process in (busy or ())[:5])
    if word in ("slowing down", "throttled"):
        cause = ": it grew hot or lowered its clock" if word == "throttled" else ""
        _log.warning("%s: the machine became slower while it measured%s; let it cool and repeat", platform, cause)
    if share is not None and share >= SHARED:
        who = f" ({names})" if names else ""
        _log.warning("%s: others had the core for %.0f %% of the time%s; stop them", platform, 100 * share, who)
    return seen
