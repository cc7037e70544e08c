"""Files named by their content: how the platforms write and check what they compile."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from netadapt.errors import PlatformError
from netadapt.platforms.base import Artifact


def store(content: bytes, folder: Path, suffix: str) -> Artifact:
    """Write ``content`` to ``folder/<sha256><suffix>``, completely or not at all; a file that exists is kept.

    Args:
        content: of the file.
        folder: created if missing.
        suffix: e.g. ``.onnx``.
    """
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return Artifact(path=path, sha256=digest)


def size_mb(artifact: Artifact) -> float:
    """Return the size of an artifact in 10^6 bytes; of a folder, that of all its files."""
    files = [artifact.path] if artifact.path.is_file() else [p for p in artifact.path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def artifact_of(path: Path) -> Artifact:
    """Return the artifact that a file is.

    Raises:
        PlatformError: there is no such file.
    """
    if not path.is_file():
        raise PlatformError(f"there is no file {path}; give the path of a file that the platform's runtime loads.")
    with path.open("rb") as file:
        return Artifact(path=path, sha256=hashlib.file_digest(file, "sha256").hexdigest())
