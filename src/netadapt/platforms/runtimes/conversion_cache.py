"""Converted files on disk, so that a network is converted once: by key, checked on reading, bounded in size.

A file is ``KEY-DIGEST<suffix>``, where DIGEST begins the SHA-256 of its content. Files appear whole or not at all, and
may be deleted at any time, also while several processes use the folder. Used by `converted.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from netadapt.files import write_atomic

_log = logging.getLogger("netadapt")
LIMIT_BYTES = 2_000_000_000


class ConversionCache:
    """A folder of converted files.

    Args:
        folder: made when the first file comes.
        suffix: of the files, e.g. ``.tflite``.
        limit_bytes: of all files together; those used longest ago go first.
    """

    def __init__(self, folder: Path, suffix: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder, self._suffix, self._limit_bytes = folder, suffix, limit_bytes

    def get(self, key: str) -> bytes | None:
        """Return the file of ``key`` (hex digits), or ``None``; a damaged one is deleted."""
        for path in self._folder.glob(f"{key}-*{self._suffix}"):
            try:
                content = path.read_bytes()
            except OSError:  # deleted meanwhile
                continue
            if path.name == self._name(key, content):
                with contextlib.suppress(OSError):
                    os.utime(path)
                return content
            _log.warning("%s is damaged and deleted; the network is converted again", path)
            path.unlink(missing_ok=True)
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep ``content`` as the file of ``key``; a folder that cannot be written costs a warning only."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / self._name(key, content), content)
        except OSError as error:
            _log.warning("a converted file cannot be kept in %s: %s", self._folder, error)
            return
        self._shorten()

    def _name(self, key: str, content: bytes) -> str:
        return f"{key}-{hashlib.sha256(content).hexdigest()[:16]}{self._suffix}"

    def _shorten(self) -> None:
        """Delete what was used longest ago until the rest is within the limit."""
        found = []
        for path in self._folder.glob(f"*{self._suffix}"):
            with contextlib.suppress(OSError):  # deleted meanwhile
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        excess = sum(size for _, size, _ in found) - self._limit_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
