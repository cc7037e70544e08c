"""One writer per run folder, by a lock that the kernel drops when its process dies, however it dies.

`RunFolder` takes it before it touches the journal. A record lock (fcntl) is used and not flock, because measuring and
data-loading children would inherit flock and keep it alive after their parent was killed.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from netadapt.errors import ConfigError

log = logging.getLogger("netadapt")

NAME = "lock"
#: record locks do not keep one process from locking twice, so its own locks are remembered here: path -> process id
_held: dict[Path, int] = {}


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: process id.
        host: name of the machine.
        boot: id of the machine's boot; process ids mean nothing across boots.
        since: ISO 8601 in UTC.
    """

    pid: int
    host: str
    boot: str
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        """Return the description of the calling process."""
        return cls(os.getpid(), socket.gethostname(), _boot_id(), datetime.now(UTC).isoformat(timespec="seconds"))


class RunLock:
    """The exclusive right to write into a run folder.

    Args:
        folder: the run folder; it must exist.

    Raises:
        ConfigError: another process, or this one, is writing the same run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / NAME
        if _held.get(self.path) == os.getpid():
            raise _busy(folder, Holder.this_process())
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        before = _parse(os.pread(self._file, 4096, 0))
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise _busy(folder, before) from error
        _held[self.path] = os.getpid()
        if before is not None:
            log.warning("process %d on %s left %s without closing it; taking over", before.pid, before.host, folder)
        self._write(json.dumps(asdict(Holder.this_process())).encode())

    def release(self) -> None:
        """Give the right back; idempotent."""
        if self._file >= 0:
            self._write(b"")
            os.close(self._file)  # drops the lock
            self._file = -1
            _held.pop(self.path, None)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write(self, content: bytes) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, content, 0)


def holder(folder: Path) -> Holder | None:
    """Return who is writing a run, or None if nobody is, as far as this machine can see."""
    path = folder.resolve() / NAME
    if _held.get(path) == os.getpid():  # opening and closing the file here would drop our own lock
        return Holder.this_process()
    try:
        found = _parse(path.read_bytes())
    except OSError:
        return None
    if found is None or found.host != socket.gethostname():
        return found
    return found if found.boot == _boot_id() and _is_alive(found.pid) else None


def _parse(content: bytes) -> Holder | None:
    """Read what a holder wrote; None for an empty or unreadable file."""
    try:
        found = json.loads(content)
        return Holder(int(found["pid"]), str(found["host"]), str(found["boot"]), str(found["since"]))
    except (ValueError, KeyError, TypeError):
        return None


def _is_alive(pid: int) -> bool:
    """Tell whether a process of this machine exists, even if it belongs to somebody else."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _boot_id() -> str:
    """Return an id of this boot of the machine, empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _busy(folder: Path, who: Holder | None) -> ConfigError:
    """Return the error for a second writer."""
    name = f"process {who.pid} on {who.host} (since {who.since})" if who else "another process"
    return ConfigError(
        f"{folder} is being written by {name}; a run has one writer. Wait for it or stop it, or give another folder "
        f"with --out; `netadapt status {folder}` shows how far it is."
    )
