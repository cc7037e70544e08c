"""The machine-wide measuring lock: whoever times a network holds it, so that two runs never disturb each other.

Taken by `stopwatch.py` around every window of measurements; training that shares the machine calls
`pause_while_measuring` between batches. The system frees the lock when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netadapt.errors import MeasurementUnusable

_log = logging.getLogger("netadapt")
_POLL_S = 0.05


def lock_path() -> Path:
    """Return the file that all users of this machine lock: in /tmp, because TMPDIR may differ between users."""
    shared = Path("/tmp")
    return (shared if shared.is_dir() else Path(tempfile.gettempdir())) / "netadapt-measuring.lock"


def _open(path: Path) -> int:
    """Open the lock file, also when another user made it."""
    flags = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        fd = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(fd, 0o666)  # whatever the umask: another user must be able to lock it too
        return fd
    try:
        return os.open(path, flags | os.O_RDWR)
    except PermissionError:
        return os.open(path, flags | os.O_RDONLY)


def _try(fd: int) -> bool:
    """Lock ``fd`` if nobody else has."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class MeasuringLock:
    """A lock on a file, re-entrant within a thread; other threads and processes wait.

    Args:
        path: the file to lock.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or lock_path()
        self._fd = -1
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A forked child starts without the lock; its copy of the descriptor must not keep it alive.
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1
        self._depth = 0
        self._threads = threading.RLock()

    @contextlib.contextmanager
    def hold(self, what: str, *, limit_s: float = 3600.0) -> Iterator[None]:
        """Hold the lock for the length of a ``with`` block.

        Args:
            what: told to those who wait, e.g. the platform's name.
            limit_s: seconds to wait for others at most.

        Raises:
            MeasurementUnusable: others did not release it in time; the message tells who.
        """
        if not self._threads.acquire(timeout=limit_s):
            raise MeasurementUnusable(f"another thread of this process has been measuring for {limit_s:g} s.")
        try:
            if self._depth == 0:
                self._acquire(what, limit_s)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._release()
        finally:
            self._threads.release()

    def _acquire(self, what: str, limit_s: float) -> None:
        fd = _open(self._path)
        try:
            self._wait(fd, limit_s)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        record = {"pid": os.getpid(), "what": what, "since": time.time()}
        with contextlib.suppress(OSError):  # read-only for us: the lock holds all the same
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(record).encode(), 0)

    def _wait(self, fd: int, limit_s: float) -> None:
        start = time.monotonic()
        told = False
        while not _try(fd):
            waited = time.monotonic() - start
            if waited > limit_s:
                raise MeasurementUnusable(
                    f"waited {limit_s:g} s for another process to stop measuring on this machine: {self._describe()}. "
                    "Wait for it or end it, then repeat the command."
                )
            if not told and waited > 2.0:
                _log.warning("waiting for another process that measures on this machine: %s", self._describe())
                told = True
            time.sleep(_POLL_S)

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # also frees it for copies of the descriptor in forked children
        os.close(self._fd)
        self._fd = -1

    def holder(self) -> dict[str, Any] | None:
        """Return ``pid``, ``what`` and ``since`` (Unix seconds) of the process that measures now, or ``None``.

        The record may be empty when its holder may not write the file.
        """
        if self._depth:
            return self._record()
        try:
            fd = _open(self._path)
        except OSError:
            return None
        try:
            return None if _try(fd) else self._record()
        finally:
            os.close(fd)

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _describe(self) -> str:
        record = self._record()
        return f"process {record.get('pid', '?')} ({record.get('what', 'unknown')}), lock file {self._path}"

    def pause_while_measuring(self, *, limit_s: float = 3600.0) -> None:
        """Wait until no other process measures (at most ``limit_s``); returns at once inside ``hold``."""
        deadline = time.monotonic() + limit_s
        while not self._depth and self.holder() is not None and time.monotonic() < deadline:
            time.sleep(_POLL_S)


measuring_lock = MeasuringLock()
