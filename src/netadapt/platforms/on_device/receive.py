"""Keeps files by their content on a device: they come in whole or not at all, and the oldest ones go.

`devices/ssh_connection.py` sends this text itself, to a bare Python, in order to push the other scripts with it;
`measure_once.py` imports it on the device. Nothing but Python's own library, 3.9 or later.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 1 << 30  # kept on the device in all
PART_S = 3600.0  # after which a file that nobody finished is a leftover of somebody who died
CHUNK = 1 << 20
#: what the name of a file is made of, here and where `artifacts.py` writes it
SHA256 = re.compile(r"[0-9a-f]{64}")
SUFFIX = re.compile(r"(?!.{65})(\.[A-Za-z0-9_-]+)+")


def folder() -> Path:
    """Return where files are kept, readable by this user only; made if missing."""
    path = Path.home() / ".cache" / "netadapt" / "device"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def path_of(sha256: str, suffix: str) -> Path:
    """Return where a file is kept.

    Raises:
        ValueError: the names are not ours.
    """
    if not SHA256.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no SHA-256")
    if suffix and not SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} is no suffix")
    return folder() / (sha256 + suffix)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def has(sha256: str, suffix: str) -> bool:
    """Return whether the file is here and whole; it then counts as used now, and a damaged one is removed."""
    path = path_of(sha256, suffix)
    if not path.is_file():
        return False
    if digest(path) != sha256:
        path.unlink()
        return False
    os.utime(path)
    return True


def put(source: BinaryIO, sha256: str, suffix: str, size: int) -> None:
    """Store ``size`` bytes of ``source``; what does not arrive whole leaves nothing behind.

    Raises:
        ValueError: less or something else arrived.
    """
    path = path_of(sha256, suffix)
    make_room(size)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            left, found = size, hashlib.sha256()
            while left and (chunk := source.read(min(left, CHUNK))):
                file.write(chunk)
                found.update(chunk)
                left -= len(chunk)
        if left or found.hexdigest() != sha256:
            raise ValueError(f"{size - left} of {size} bytes arrived, or other ones than were sent")
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def make_room(size: int) -> None:
    """Remove leftovers, and the files that were not used for longest until ``size`` more bytes are allowed."""
    kept = []
    for path in folder().iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # somebody else was faster
            continue
        if path.suffix == ".part" and time.time() - status.st_mtime > PART_S:
            path.unlink(missing_ok=True)
        elif path.suffix not in (".part", ".lock"):
            kept.append((status.st_mtime, status.st_size, path))
    total = size + sum(entry[1] for entry in kept)
    for _, bytes_, path in sorted(kept):
        if total <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= bytes_


def receive(arguments: list[str], source: BinaryIO) -> dict[str, Any]:
    """Store a file unless it is here; say where it lies.

    Args:
        arguments: SHA-256, suffix, and size, which is 0 for the question whether it is here.
        source: of its content.
    """
    sha256, suffix, size = arguments
    if not has(sha256, suffix):
        if int(size) == 0:
            return {"path": None}
        put(source, sha256, suffix, int(size))
    return {"path": str(path_of(sha256, suffix))}


if __name__ == "__main__":
    print(json.dumps(receive(sys.argv[1:], sys.stdin.buffer)))  # noqa: T201  the answer
