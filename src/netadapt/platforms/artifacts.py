"""Files named by their content: how the platforms write and check what they compile.

A network of several files (ncnn's) is a manifest, a small JSON file, that names the others by their content; the
hash of the manifest therefore stands for all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netadapt.errors import PlatformError
from netadapt.platforms.base import Artifact
from netadapt.platforms.on_device.receive import SHA256, SUFFIX

MANIFEST_SUFFIX = ".network.json"
MANIFEST_FORMAT = "netadapt-network-files"
LARGEST_MANIFEST = 1 << 20  # bytes
SUFFIXES = "a dot with letters, digits, _ or -, several times, 64 characters in all"  #: that SUFFIX allows, in words


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


def sendable(suffix: str) -> str:
    """Return the suffix of a file that goes to another device, where it stands in a name and in commands.

    Raises:
        PlatformError: it is neither empty nor what a device takes.
    """
    if suffix and not SUFFIX.fullmatch(suffix):
        raise PlatformError(
            f"a file whose name ends in {suffix!r} is not sent to a device; allowed is no suffix, or {SUFFIXES}. "
            "Rename the file."
        )
    return suffix


def size_mb(artifact: Artifact) -> float:
    """Return the size of an artifact and its companions in 10^6 bytes; of a folder, that of all its files."""
    files = artifact.files if artifact.path.is_file() else [p for p in artifact.path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def store_several(contents: Mapping[str, bytes], folder: Path, facts: Mapping[str, Any]) -> Artifact:
    """Write the files of one network, each named by its content, and then the manifest that names them.

    Args:
        contents: suffix (e.g. ``.param``) to content.
        folder: created if missing.
        facts: what else the runtime must know to load them, ready for JSON.

    Raises:
        PlatformError: a suffix that no manifest may name; nothing was written.
    """
    for suffix in contents:
        if not SUFFIX.fullmatch(suffix):
            raise PlatformError(f"{suffix!r} is no suffix for a file of a network; allowed is {SUFFIXES}.")
    paths = {suffix: store(content, folder, suffix).path for suffix, content in contents.items()}
    files = {suffix: path.name for suffix, path in paths.items()}
    manifest = {"format": MANIFEST_FORMAT, "v": 1, "files": files, **facts}
    written = store(json.dumps(manifest, indent=1).encode(), folder, MANIFEST_SUFFIX)
    return Artifact(path=written.path, sha256=written.sha256, companions=tuple(paths.values()))


def artifact_of(path: Path) -> Artifact:
    """Return the artifact that a file is; a manifest's companions are looked for beside it.

    Raises:
        PlatformError: there is no such file, or a companion is missing or is not what the manifest says.
    """
    if not path.is_file():
        raise PlatformError(f"there is no file {path}; give the path of a file that the platform's runtime loads.")
    companions: tuple[Path, ...] = ()
    if path.name.endswith(MANIFEST_SUFFIX):
        companions = tuple(path.parent / name for name in manifest_of(path)["files"].values())
        for companion in companions:
            if not companion.is_file() or _sha256(companion) != companion.name[:64]:
                raise PlatformError(
                    f"{companion}, which {path.name} names, is missing or damaged; copy all files of a network."
                )
    return Artifact(path=path, sha256=_sha256(path), companions=companions)


def manifest_of(path: Path) -> dict[str, Any]:
    """Return the manifest in a file: ``files`` by suffix, and what its runtime added.

    Raises:
        PlatformError: the file is no manifest, or names files that do not lie beside it.
    """
    try:
        if path.stat().st_size > LARGEST_MANIFEST:
            raise ValueError(f"it is larger than {LARGEST_MANIFEST} bytes")
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest["format"] != MANIFEST_FORMAT or manifest["v"] != 1:
            raise ValueError("its format is unknown")
        for suffix, name in manifest["files"].items():
            if not SUFFIX.fullmatch(suffix) or not SHA256.fullmatch(name[:64]) or name[64:] != suffix:
                raise ValueError(
                    f"it names a file {name!r}; allowed are 64 hexadecimal digits and the suffix {suffix!r}, "
                    f"which is {SUFFIXES}"
                )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(f"{path} does not name the files of a network: {error}; compile it again.") from error
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
