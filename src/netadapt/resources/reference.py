"""Measures the yardsticks of a run in its first window of time: the scale of everything that is measured later.

Called by `meter.py`, which takes later windows to this scale with `yardsticks.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise, takewhile

from netadapt.platforms.base import Artifact, Measurement, Platform
from netadapt.platforms.stopwatch import StopwatchProtocol, measure

_log = logging.getLogger("netadapt")
_SHORT, _LONG = StopwatchProtocol(sessions=11), StopwatchProtocol(sessions=33)
_DOUBTFUL = 0.02  # relative half-width from which on the window is taken once more, longer than a bad minute lasts
_APART = 0.9  # latency relative to that of the next larger yardstick, from which on the two cannot be told apart


def measure_reference(platform: Platform, artifacts: Sequence[Artifact], seed: int) -> list[Measurement]:
    """Measure the yardsticks, the original first; those that are no use as one are left out, with all behind them.

    Args:
        platform: where.
        artifacts: of the yardsticks, each narrower than the one before.
        seed: of the order.
    """
    measured = measure(platform, artifacts, protocol=_SHORT, seed=seed)
    if any(found.relative_half_width > _DOUBTFUL for found in measured):
        longer = measure(platform, artifacts, protocol=_LONG, seed=seed)
        # a machine that slows down all the time is the worse known the longer it takes
        measured = measured if longer[0].verdict == "unusable" else longer
    good = takewhile(lambda pair: _measures(*pair), pairwise(measured))
    return [measured[0], *(narrower for _, narrower in good)]


def _measures(wider: Measurement, narrower: Measurement) -> bool:
    return narrower.verdict != "unusable" and narrower.median_ms <= _APART * wider.median_ms
