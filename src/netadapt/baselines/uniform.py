"""Uniform width: every group scaled by one factor (the width multiplier), the baseline in every report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from netadapt.network.structure import ChannelGroup
from netadapt.resources.estimator import Estimator

_FACTORS = np.linspace(1.0, 0.0, 401)


def uniform_widths(groups: Sequence[ChannelGroup], *, multiple: int, minimum: int) -> NDArray[np.int64]:
    """Return the distinct networks of uniform width, the widest first.

    Args:
        groups: of the original network.
        multiple: widths are rounded to the nearest multiple of this (and of the group's own).
        minimum: smallest width (or the original, where that is smaller).

    Returns:
        ``(m, groups)``; the first row is the original.
    """
    full = np.array([group.width for group in groups], dtype=np.int64)
    grain = np.array([np.lcm(multiple, group.multiple) for group in groups])
    least = np.array([max(minimum, group.minimum) for group in groups])
    scaled = _FACTORS[:, None] * full
    rounded = np.maximum(np.round(scaled / grain) * grain, -(-least // grain) * grain)
    rows = np.minimum(rounded, full).astype(np.int64)
    rows[0] = full
    return np.array(list(dict.fromkeys(map(tuple, rows.tolist()))), dtype=np.int64)


def widest_within(candidates: NDArray[np.int64], estimator: Estimator, limit: float) -> NDArray[np.int64] | None:
    """Return the row of ``candidates`` with the largest estimate not above ``limit``; ``None`` if all are above."""
    values, _ = estimator.estimate(candidates)
    within = np.flatnonzero(values <= limit)
    return candidates[within[np.argmax(values[within])]] if len(within) else None
