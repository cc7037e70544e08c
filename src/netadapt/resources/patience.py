"""Measures again, after a pause, what a burst of other work made useless: it must not end a run of hours.

`meter.py` and `rounds.py` measure with it, and `metering.py` every step of a run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

_log = logging.getLogger("netadapt")
_T = TypeVar("_T")
#: seconds waited before a measurement is repeated
PAUSES_S = (5.0, 30.0)


def patiently(take: Callable[[int], _T], usable: Callable[[_T], bool], platform: str) -> _T:
    """Measure until the result can be used, three times at most, and return the last result.

    Args:
        take: measures; given how often it was called before.
        usable: tells whether a result can be used.
        platform: named where the user is told of it.
    """
    found = take(0)
    for attempt, pause_s in enumerate(PAUSES_S, 1):
        if usable(found):
            break
        _log.warning("%s: a measurement is unusable and is repeated in %g s", platform, pause_s)
        time.sleep(pause_s)
        found = take(attempt)
    return found
