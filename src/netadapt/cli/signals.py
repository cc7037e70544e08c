"""What SIGINT and SIGTERM do to a run: the first asks for a stop at a safe point, the second stops at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from netadapt.cli.output import note

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED = 130


class Stopping:
    """Counts the signals of a run and passes the first one on."""

    def __init__(self) -> None:
        self._ask: Callable[[], None] | None = None
        self._count = 0

    def by(self, ask: Callable[[], None]) -> None:
        """Say how the work is asked to stop; before that the first signal stops it at once."""
        self._ask = ask

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._count += 1
        if self._ask is None or self._count == 2:
            raise KeyboardInterrupt
        if self._count > 2:  # not even the clean-up comes to an end
            os._exit(_INTERRUPTED)
        note(f"{signal.Signals(number).name}: stopping at the next safe point; once more stops at once")
        self._ask()


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Take over the signals for the time of a run and give them back afterwards."""
    stop = Stopping()
    before = {number: signal.signal(number, stop.handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
