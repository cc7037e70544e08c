"""Exports a variant for PyTorch: a copy of its folder, which `netadapt.load` or its own ``load.py`` opens."""

from __future__ import annotations

import shutil
from pathlib import Path

from netadapt.errors import ModelError


def copy_variant(variant: Path, folder: Path) -> Path:
    """Copy the files of a variant's folder and return the copy's path.

    Args:
        variant: holds ``architecture.json`` and ``weights.safetensors``.
        folder: must not exist or be empty.

    Raises:
        ModelError: ``variant`` is not the folder of a variant, holds links, or ``folder`` is in use.
    """
    missing = [name for name in ("architecture.json", "weights.safetensors") if not (variant / name).is_file()]
    if missing:
        raise ModelError(f"{variant} is not the folder of a variant: it has no {' and no '.join(missing)}.")
    if folder.exists() and any(folder.iterdir()):
        raise ModelError(f"{folder} is not empty; give a folder that does not exist yet.")
    files = sorted(path for path in variant.iterdir())
    links = [path.name for path in files if path.is_symlink()]
    if links:
        raise ModelError(f"{variant} holds links ({', '.join(links)}); a variant's folder has plain files only.")
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    return folder
