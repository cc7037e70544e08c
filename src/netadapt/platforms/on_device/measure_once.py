"""Does one thing on a device: reads one JSON request on stdin, prints one JSON object on stdout, and ends.

``identify`` says what machine and runtime this is and how it is, ``put`` stores a file, ``measure`` times one in a
fresh process, while no other host does. `devices/ssh.py` packs it with its neighbours into one archive, which is pushed
to the device and run there with the device's own Python (3.9 or later) and one runtime. The asker keeps our stdin open:
when that ends, the asker is gone and so is the session.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import environment
import receive
import session_server
import session_timing

POLL_S = 0.05
MACHINE_LOCK = Path("/tmp/netadapt-measuring.lock")  # of netadapt itself on the device, see lock.py


class Busy(Exception):
    """Somebody else measures."""


def identify(request: dict[str, Any]) -> dict[str, Any]:
    """Say what this is: processor, architecture, system, Python, cores, memory, clock, load; and the runtime's version.

    Args:
        request: ``runtime`` (``None``: not asked), ``packages`` whose versions are recorded, ``energy``: which sensor
            is asked for.

    Returns:
        ``machine`` and ``state``; what `version` gives; ``sensor``, or why there is ``no_sensor``.
    """
    found: dict[str, Any] = {"machine": machine(), "state": environment.snapshot(tuple(request["packages"]))}
    if request["runtime"] is not None:
        found |= version(request["runtime"])
    if request["energy"] != "none":
        import energy_session

        found |= energy_session.described(request["energy"])
    return found


def machine() -> dict[str, Any]:
    """Return what stays the same as long as this is the same machine."""
    return {
        "processor": environment.processor(),
        "architecture": platform.machine(),
        "board": board(),
        "cores": len(environment.available_cores()),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "python": platform.python_version(),
    }


def board() -> str:
    """Return the name of the board, which says more than the processor's on ARM; empty where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    return ""


def version(runtime: str) -> dict[str, Any]:
    """Return ``version``, or what is ``lacking``, or the ``error`` with which the runtime does not start."""
    try:
        return {"version": session_timing.engine_of(runtime).version()}
    except ModuleNotFoundError as error:
        return {"lacking": error.name or runtime, "executable": sys.executable}
    except Exception as error:  # noqa: BLE001  whatever it is, the asker must be told
        return {"error": f"{type(error).__name__}: {error}"[: session_server.MOST_CHARACTERS]}


def put(request: dict[str, Any]) -> dict[str, Any]:
    """Store the file that follows the request.

    Args:
        request: ``sha256``, ``suffix``, ``size``.
    """
    with os.fdopen(0, "rb", closefd=False) as source:
        receive.put(source, request["sha256"], request["suffix"], request["size"])
    return {}


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Time a file that is here, in a fresh process, on the last cores.

    Args:
        request: for `session_server.respond`, and ``files``: SHA-256 and suffix of the file that the runtime loads and
            of those that this one names; ``shared``: whether to
            hold the lock of netadapt itself on this machine too, because the asker does not; ``wait_s``: how long to
            wait for others; ``energy``: of which sensor.

    Returns:
        What `session_server.respond` says, with ``energy_mj`` where it is asked for, ``machine`` and ``version``; or
        ``missing``, the files that are not here, or ``busy`` while others measure, or what `energy_session.session`
        says where energy cannot be measured.
    """
    try:
        with locked(request["wait_s"], shared=request["shared"]):
            if missing := [sha256 for sha256, suffix in request["files"] if not receive.has(sha256, suffix)]:
                return {"missing": missing}
            found = version(request["runtime"])
            if "version" not in found:
                return found
            cores = list(environment.available_cores())[-request["threads"] :]
            path = receive.path_of(*request["files"][0])
            return session(request | {"model": str(path), "cores": cores}) | found | {"machine": machine()}
    except Busy as busy:
        return {"busy": str(busy)}


def session(request: dict[str, Any]) -> dict[str, Any]:
    """Run the session of ``request`` with what it asks for of energy."""
    empty: dict[str, int] = {}

    def run(seconds: float, recorder: session_server.Recorder | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = session_server.respond(request | {"seconds": seconds}, empty, os.getppid(), recorder)
        return answer

    if request["energy"] == "none":
        return run(request["seconds"])
    import energy_session

    found: dict[str, Any] = energy_session.session(request["energy"], run, request["seconds"])
    return found


@contextlib.contextmanager
def locked(wait_s: float, *, shared: bool) -> Iterator[None]:
    """Hold the lock in our folder, so that two hosts do not measure at once; and the machine's lock if ``shared``."""
    with contextlib.ExitStack() as stack:
        for path in [receive.folder() / "measuring.lock", *([MACHINE_LOCK] if shared else [])]:
            handle = open_lock(path)
            stack.callback(os.close, handle)
            wait(handle, path, wait_s)
        yield


def open_lock(path: Path) -> int:
    """Open a lock file, which another user may have made."""
    flags = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    if not path.parent.is_dir():  # no /tmp here
        return os.open(receive.folder() / "machine.lock", flags | os.O_RDWR | os.O_CREAT, 0o600)
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, flags | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.fchmod(handle, 0o666)
        return handle
    return os.open(path, flags | os.O_RDONLY)


def wait(handle: int, path: Path, wait_s: float) -> None:
    """Lock a file within ``wait_s`` seconds.

    Raises:
        Busy: others did not release it in time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(str(path)) from None
        if select.select([0], [], [], POLL_S)[0]:
            raise SystemExit(1)  # the asker is gone


def first_line(source: int) -> bytes:
    """Read up to the first line's end and no further: what follows is for others."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(source, 1)
        if not byte:
            raise SystemExit("no request")
        line += byte
    return line


def main() -> None:
    """Answer one request."""
    os.utime(sys.argv[0])  # this archive is in use: it must not make room for others
    replies = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not end up in the answer
    request = json.loads(first_line(0))
    answer = {"identify": identify, "put": put, "measure": measure}[request["do"]](request)
    with os.fdopen(replies, "wb") as output:
        output.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
