"""The arithmetic of the stopwatch: from sessions to levels, drift, intervals and verdicts. Pure functions on arrays.

Rows are networks, columns are rounds; everything is relative, so that networks of any speed can share a window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from netadapt.platforms.base import Verdict

Values = NDArray[np.float64]

FEWEST_PEERS = 7  # with fewer networks the median of their levels says more about their own noise than about drift
SHARED = 0.05  # share of the time without a core from which on latencies cannot be called stable
SINGLE_SESSION_SPREAD = 0.05  # twice the mean difference between two sessions seen on CPUs (DESIGN section 8)


def session_level(slices: tuple[float, ...]) -> float:
    """Return the latency of a session: the 25th percentile of its slices, which short interruptions leave alone."""
    return float(np.percentile(slices, 25))


def drift(values: Values, sentinel: int | None) -> Values:
    """Return how slow the machine was in each round, as seen by each network's peers; 1 is the window's level.

    A network's own value never enters its own drift, else its noise would look smaller than it is. With
    `FEWEST_PEERS` peers or more it is the median of their levels; with fewer it is the sentinel's level alone, and
    without a sentinel (and for the sentinel itself) it is 1.

    Args:
        values: ``(networks, rounds)``, positive.
        sentinel: row of the sentinel, if any.

    Returns:
        ``(networks, rounds)``.
    """
    levels = values / np.median(values, axis=1, keepdims=True)
    factors = np.ones_like(values)
    networks = len(values)
    for row in range(networks):
        if networks > FEWEST_PEERS:
            factors[row] = np.median(np.delete(levels, row, axis=0), axis=0)
        elif sentinel is not None and row != sentinel:
            factors[row] = levels[sentinel]
    return factors


def session_noise(values: Values) -> Values:
    """Return each network's relative standard deviation between sessions, robustly.

    The larger of the network's own and of all networks' pooled median absolute deviation: three to five sessions
    say little about their spread, but the networks of a window share the machine and its noise.

    Args:
        values: ``(networks, rounds)`` without drift.

    Returns:
        ``(networks,)``.
    """
    rounds = values.shape[1]
    if rounds == 1:
        return np.full(len(values), SINGLE_SESSION_SPREAD)
    deviations = np.abs(values / np.median(values, axis=1, keepdims=True) - 1)
    # Of n deviations from their own median one is zero (n odd): n / (n - 1) corrects for it.
    scale = 1.4826 * rounds / (rounds - 1)
    own = np.median(deviations, axis=1)
    return np.asarray(scale * np.maximum(own, np.median(deviations)))


def half_widths(values: Values) -> Values:
    """Return half the 95 % confidence interval of each network's median, relative to that median.

    ``t * 1.2533 * noise / sqrt(rounds)``: the standard error of a median of normal values, with Student's t for the
    0.37 * networks * (rounds - 1) degrees of freedom that a median absolute deviation keeps. Simulated coverage with
    5 rounds is 95 to 98 % for 1 to 80 networks, with normal noise and with a tenth of gross outliers.

    A bootstrap of the median covers less and cannot borrow what other networks of the window say about the noise: of
    one network with 5, 11, 21 and 41 rounds 94, 94, 92 and 94 %, against 98, 97, 96 and 95 % here (skewed noise: 95,
    93, 91, 94 against 97, 94, 93, 93). Bimodal noise is the exception: 93, 94, 94, 96 against 89, 92, 94, 98.

    Args:
        values: ``(networks, rounds)`` without drift.
    """
    networks, rounds = values.shape
    noise = session_noise(values)
    if rounds == 1:
        return 1.96 * noise
    freedom = max(1.0, 0.37 * networks * (rounds - 1))
    return np.asarray(float(stdtrit(freedom, 0.975)) * 1.2533 * noise / np.sqrt(rounds))


def verdict(sessions: Values, waited: float | None = None) -> Verdict:
    """Judge the spread (interquartile range over median) of one network's sessions: < 5 %, < 25 %, or worse.

    Sessions that shared their core all the time agree with each other and are all wrong, hence ``waited``.

    Args:
        sessions: ``(rounds,)`` without drift.
        waited: share of the time in which others had the core; from 5 % on nothing is stable.
    """
    low, middle, high = np.percentile(sessions, [25, 50, 75])
    spread = (high - low) / middle
    if spread < 0.05 and (waited or 0.0) < SHARED:
        return "stable"
    return "noisy" if spread < 0.25 else "unusable"
