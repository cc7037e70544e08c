"""Runs a program that may hang, flood or die, and comes back with what it said; `command.py` and `ssh*.py` use it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

TAIL_BYTES = 2000
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        status: exit status, negative for a signal; meaningless unless ``ended`` is ``by itself``.
        output: all that it wrote on standard output; cut where it said too much.
        tail: the end of what it wrote on standard error.
        ended: ``by itself``, or ended by us: ``too slow``, ``too much`` output.
    """

    status: int
    output: bytes
    tail: str
    ended: Literal["by itself", "too slow", "too much"]


def run_program(
    argv: Sequence[str],
    *,
    limit_s: float,
    most_bytes: int,
    stdin: bytes = b"",
    hold_stdin: bool = False,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a program without a shell, in a process group of its own that ends with it.

    Args:
        argv: the program's path or name, and its arguments.
        limit_s: seconds after which it is ended.
        most_bytes: of standard output, above which it is ended.
        stdin: what it reads.
        hold_stdin: leave its input open after that, so that its end tells it that we are gone.
        environment: variables beside those of this process.
        folder: in which it starts; by default the current one.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        start_new_session=True,  # Ctrl-C is ours to handle, and the whole group can be ended
    )
    talk = _Talk(process, stdin, hold_stdin, most_bytes)
    try:
        ended = talk.until(time.monotonic() + limit_s)
    finally:
        _end_group(process)
        talk.close()
    return Outcome(process.returncode, bytes(talk.output[:most_bytes]), talk.tail_text(), ended)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the program and whatever it left running in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Talk:
    """The three pipes of a running program."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes, hold: bool, most_bytes: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process, self._hold, self._most = process, hold, most_bytes
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        self._unsent = memoryview(stdin)
        self.output, self._tail = bytearray(), bytearray()
        self._selector = selectors.DefaultSelector()
        for pipe in (self._in, self._out, self._err):
            os.set_blocking(pipe.fileno(), False)
        self._selector.register(self._in, selectors.EVENT_WRITE)
        self._selector.register(self._out, selectors.EVENT_READ)
        self._selector.register(self._err, selectors.EVENT_READ)
        self._reading = 2

    def until(self, deadline: float) -> Literal["by itself", "too slow", "too much"]:
        """Talk until the program has ended and said all, or until it must be ended."""
        while self._reading:
            left = deadline - time.monotonic()
            if left <= 0:
                return "too slow"
            for key, _ in self._selector.select(left):
                if key.fileobj is self._in:
                    self._write()
                else:
                    self._read(key.fileobj is self._out)
            if len(self.output) > self._most:
                return "too much"
        try:
            self._process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "too slow"
        return "by itself"

    def _write(self) -> None:
        try:
            if self._unsent:
                self._unsent = self._unsent[os.write(self._in.fileno(), self._unsent[:_CHUNK]) :]
        except BrokenPipeError:  # it reads no further; its status tells why
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._selector.unregister(self._in)
            if not self._hold:
                self._in.close()

    def _read(self, output: bool) -> None:
        pipe = self._out if output else self._err
        chunk = os.read(pipe.fileno(), _CHUNK)
        if not chunk:
            self._selector.unregister(pipe)
            self._reading -= 1
        elif output:
            self.output += chunk
        else:
            self._tail += chunk
            del self._tail[:-TAIL_BYTES]

    def tail_text(self) -> str:
        """Return the end of standard error."""
        return self._tail.decode(errors="replace").strip()

    def close(self) -> None:
        """Close all pipes."""
        self._selector.close()
        for pipe in (self._in, self._out, self._err):
            pipe.close()
