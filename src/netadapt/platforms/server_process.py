"""A Python process that serves this one over its pipes and never outlives it.

`devices/session_client.py` and `runtimes/conversion_client.py` each keep one and speak their own protocol over it. It
is ended by `close`, by garbage collection or by the death of this process (its input ends), whichever comes first.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

_TAIL_BYTES = 2000


class ServerProcess:
    """Runs a script that reads requests from its standard input and answers on its standard output.

    Args:
        script: started by path, with nothing from the current folder in its way.
        argument: given to the script.
        environment: added to that of this process.
        patience_s: seconds that it may take to end by itself once its input has ended; then it is killed.
    """

    def __init__(self, script: Path, argument: str, *, environment: Mapping[str, str], patience_s: float) -> None:
        # -P: what lies in the current folder must not shadow what the script imports.
        self._command = [sys.executable, "-P", str(script), argument]
        self._environment, self._patience_s = dict(environment), patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._owner = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Return the number of the process; ``None`` if none was started or it was closed."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it runs and belongs to this process: after a fork it belongs to the parent alone."""
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    def start(self) -> None:
        """Start a fresh process; an older one is ended."""
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env=os.environ | self._environment,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _end, self._process, self._errors, self._owner, self._patience_s)

    def write(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            BrokenPipeError: the process died.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._process.stdin.fileno(), rest) :]

    def read(self, most: int, deadline: float) -> bytes:
        """Return what it answers, at most so many bytes, blocked on the pipe (never spinning) until there are some.

        Args:
            most: bytes.
            deadline: on the monotonic clock.

        Raises:
            EOFError: the process died.
            TimeoutError: the deadline has passed.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(pipe, most)
        if not chunk:
            raise EOFError
        return chunk

    def status(self, limit_s: float) -> int | None:
        """Return the exit status of a process that dies within ``limit_s`` seconds, else ``None``."""
        try:
            return None if self._process is None else self._process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None

    def tail(self) -> str:
        """Return the end of what it wrote to standard error."""
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL_BYTES))
        return self._errors.read().decode(errors="replace").strip()

    def kill(self) -> None:
        """End it at once, whatever it does; a forked copy of its owner leaves it alone."""
        if self._process is not None and self.alive:
            self._process.kill()
        self.close()

    def close(self) -> None:
        """End it; idempotent."""
        if self._finalizer is not None:
            self._finalizer()
        self._process, self._finalizer, self._errors = None, None, None


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int, patience_s: float) -> None:
    """End the process; a forked copy of its owner leaves it alone."""
    errors.close()
    if os.getpid() != owner:
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
