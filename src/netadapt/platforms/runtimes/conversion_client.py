"""Keeps a conversion server alive and has networks converted by it; `converted.py` is its only caller.

The server is started when first needed and again after it died, after a fork of this process, and when it has grown
too large (converters keep much of what they saw).
"""

from __future__ import annotations

import io
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netadapt.errors import PlatformError
from netadapt.platforms.server_process import ServerProcess

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_log = logging.getLogger("netadapt")
_SERVER = Path(__file__).parents[1] / "converters/conversion_server.py"
_START_LIMIT_S = 300.0
_LARGEST_BYTES = 3_000_000_000  # a server that has grown beyond is replaced


class ConversionClient:
    """Converts programs in a server process.

    Args:
        name: of the converter, see `converters/conversion_server.py`.
        limit_s: seconds after which a conversion is given up.
    """

    def __init__(self, name: str, *, limit_s: float = 600.0) -> None:
        self._name, self._limit_s = name, limit_s
        # it holds nothing that must be saved
        self._process = ServerProcess(_SERVER, name, environment={"TF_CPP_MIN_LOG_LEVEL": "2"}, patience_s=0.0)

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
        tail = self._process.tail()
        # its pipe ends before it can be reaped
        status = None if isinstance(error, TimeoutError) else self._process.status(limit_s=5)
        self.close()
        if isinstance(error, TimeoutError):
            return PlatformError(f"the {self._name} converter gave no answer within {self._limit_s:g} s.\n{tail}")
        died = "died" if status is None else f"died with status {status} (-9: killed, usually for want of memory)"
        return PlatformError(f"the {self._name} converter {died} {when}.\n{tail}")

    def _send(self, request: bytes) -> None:
        """Send a request; a server that died while idle is replaced once."""
        for attempt in (1, 2):
            self._start()
            try:
                self._process.write(len(request).to_bytes(8, "big"))
                self._process.write(request)
            except BrokenPipeError as error:
                if attempt == 2:
                    raise self._failure(error, "before it read the network") from error
                self.close()
                _log.info("the %s converter died and is started again", self._name)
            else:
                return

    def _start(self) -> None:
        """Start the server if there is none that belongs to this process, or it has grown too large."""
        if self._process.alive:
            if _resident_bytes(self._process.pid) <= _LARGEST_BYTES:
                return
            _log.info("the %s converter has grown too large and is started again", self._name)
        self._process.start()
        try:
            self._receive(time.monotonic() + _START_LIMIT_S)  # its greeting
        except (EOFError, TimeoutError) as error:
            raise self._failure(error, "when it started") from error

    def _receive(self, deadline: float) -> bytes:
        """Read one message, blocked on the pipe.

        Raises:
            EOFError: the server died.
            TimeoutError: the deadline has passed.
        """
        return self._read(int.from_bytes(self._read(8, deadline), "big"), deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        buffer = bytearray()
        while len(buffer) < size:
            buffer += self._process.read(min(size - len(buffer), 1 << 20), deadline)
        return bytes(buffer)

    def close(self) -> None:
        """End the server; idempotent."""
        self._process.close()


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


def _resident_bytes(pid: int | None) -> int:
    """Return the resident size of a process, 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
