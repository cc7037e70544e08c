"""Keeps a conversion server alive and has networks converted by it; `converted.py` is its only caller.

The server is started when first needed and again after it died, after a fork of this process, and when it has grown
too large (converters keep much of what they saw). It is ended by `close`, by garbage collection or by the death of
this process, whichever comes first.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import PlatformError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_log = logging.getLogger("netadapt")
_SERVER = Path(__file__).parents[1] / "converters/conversion_server.py"
_START_LIMIT_S = 300.0
_LARGEST_BYTES = 3_000_000_000  # a server that has grown beyond is replaced
_TAIL_BYTES = 2000


def _end(process: subprocess.Popen[bytes], errors: IO[bytes], owner: int) -> None:
    """End the server; a forked copy of its owner leaves it alone."""
    errors.close()
    if os.getpid() != owner:
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()  # it holds nothing that must be saved
    process.wait()


class ConversionClient:
    """Converts programs in a server process.

    Args:
        name: of the converter, see `converters/conversion_server.py`.
        limit_s: seconds after which a conversion is given up.
    """

    def __init__(self, name: str, *, limit_s: float = 600.0) -> None:
        self._name, self._limit_s = name, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._owner = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def convert(self, program: ExportedProgram) -> tuple[bytes, list[NDArray[Any]]]:
        """Return the converted file and what it computes on the program's example inputs.

        Raises:
            PlatformError: the converter refuses the network, died or took too long.
        """
        request = _serialised(program)
        self._send(request)
        deadline = time.monotonic() + self._limit_s
        try:
            answer = json.loads(self._receive(deadline))
            if "error" in answer:
                raise PlatformError(f"{self._name} cannot convert the network: {answer['error']}")
            content, outputs = self._receive(deadline), self._receive(deadline)
        except (EOFError, TimeoutError) as error:
            raise self._failure(error, "while it converted the network") from error
        with np.load(io.BytesIO(outputs), allow_pickle=False) as arrays:
            return content, [arrays[name] for name in arrays.files]

    def _failure(self, error: Exception, when: str) -> PlatformError:
        """End the server and return what to raise."""
        tail = self._tail()
        status = None
        if self._process is not None and not isinstance(error, TimeoutError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(timeout=5)  # its pipe ends before it can be reaped
        self.close()
        if isinstance(error, TimeoutError):
            return PlatformError(f"the {self._name} converter gave no answer within {self._limit_s:g} s.\n{tail}")
        died = "died" if status is None else f"died with status {status} (-9: killed, usually for want of memory)"
        return PlatformError(f"the {self._name} converter {died} {when}.\n{tail}")

    def _send(self, request: bytes) -> None:
        """Send a request; a server that died while idle is replaced once."""
        for attempt in (1, 2):
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(len(request).to_bytes(8, "big"))
                process.stdin.write(request)
                process.stdin.flush()
            except BrokenPipeError as error:
                if attempt == 2:
                    raise self._failure(error, "before it read the network") from error
                self.close()
                _log.info("the %s converter died and is started again", self._name)
            else:
                return

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the server, started if there is none that belongs to this process or it has grown too large."""
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            if _resident_bytes(self._process.pid) <= _LARGEST_BYTES:
                return self._process
            _log.info("the %s converter has grown too large and is started again", self._name)
        self.close()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the server
        # -P: what lies in the current folder must not shadow the converter.
        process = subprocess.Popen(
            [sys.executable, "-P", str(_SERVER), self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        self._process, self._owner = process, os.getpid()
        self._finalizer = weakref.finalize(self, _end, process, self._errors, self._owner)
        try:
            self._receive(time.monotonic() + _START_LIMIT_S)  # its greeting
        except (EOFError, TimeoutError) as error:
            raise self._failure(error, "when it started") from error
        return process

    def _receive(self, deadline: float) -> bytes:
        """Read one message, blocked on the pipe.

        Raises:
            EOFError: the server died.
            TimeoutError: the deadline has passed.
        """
        return self._read(int.from_bytes(self._read(8, deadline), "big"), deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        buffer = bytearray()
        while len(buffer) < size:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            chunk = os.read(pipe, min(size - len(buffer), 1 << 20))
            if not chunk:
                raise EOFError
            buffer += chunk
        return bytes(buffer)

    def _tail(self) -> str:
        """Return the end of what the server wrote to stderr."""
        if self._errors is None:
            return ""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL_BYTES))
        return self._errors.read().decode(errors="replace").strip()

    def close(self) -> None:
        """End the server; idempotent."""
        if self._finalizer is not None:
            self._finalizer()
        self._process, self._finalizer, self._errors = None, None, None


def _serialised(program: ExportedProgram) -> bytes:
    """Return what the server reads.

    Raises:
        PlatformError: the program holds something that cannot be written.
    """
    import torch

    buffer = io.BytesIO()
    try:
        torch.export.save(program, buffer)
    except Exception as error:
        raise PlatformError(
            f"the traced network cannot be handed to the converter: {type(error).__name__}: {error}"
        ) from error
    return buffer.getvalue()


def _resident_bytes(pid: int) -> int:
    """Return the resident size of a process, 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
