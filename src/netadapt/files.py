"""Writes files so that a crash leaves either the old file or the new one, never a part; says where the cache is."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, data: bytes) -> str:
    """Write ``data`` to ``path`` through a temporary file beside it, and wait for the disk.

    Args:
        path: the file; its folder must exist.
        data: the whole content.

    Returns:
        The SHA-256 of ``data`` in hex.

    Raises:
        OSError: the folder is missing or read-only, or the disk is full; ``path`` is then as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return hashlib.sha256(data).hexdigest()


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in ``folder`` are on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder(given: Path | str | None = None) -> Path:
    """Return ``given``, else ``$NETADAPT_CACHE``, else ``~/.cache/netadapt``."""
    chosen = given or os.environ.get("NETADAPT_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "netadapt"
