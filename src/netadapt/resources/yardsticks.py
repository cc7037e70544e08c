"""Takes a machine's moods out of latencies: several networks of known latency are timed in every window of time.

A shared machine does not slow all networks down alike: a wide one waits for memory, a narrow one does not. Over 14
windows latencies varied by 2.6 % as they were, by 2.9 % relative to the original alone, and by 1.2 % on this scale
(medians over networks; `benchmarks/moods.py`). Called by `meter.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from netadapt.resources.designs import uniform
from netadapt.resources.estimator import Values

if TYPE_CHECKING:
    from netadapt.network import Network

_SHARES = (0.5, 0.25)  # of all widths


def yardsticks(network: Network) -> list[tuple[int, ...]]:
    """Return the widths of the original network, of its half and its quarter; fewer where these are the same."""
    original = tuple(int(group.width) for group in network.groups)
    return list(dict.fromkeys([original, *(uniform(network, share) for share in _SHARES)]))


def on_scale(levels_ms: Values, now_ms: Sequence[float], reference_ms: Sequence[float]) -> Values:
    """Return what networks of one window would have taken in the window of reference.

    A network is as much slower than usual as a yardstick of its latency would be: between yardsticks the slow-down is
    interpolated, logarithms over logarithms; beyond them it is that of the nearest.

    Args:
        levels_ms: of the networks, any shape, positive.
        now_ms: of the yardsticks in the same window, the original first.
        reference_ms: of the yardsticks in the window of reference; where the two differ in length the first ones count.
    """
    pairs = sorted(zip(now_ms, reference_ms, strict=False))
    now, reference = np.log(np.array(pairs)).T
    levels = np.log(levels_ms)
    return np.asarray(np.exp(levels - np.interp(levels, now, now - reference)))
