"""Hashes of what is in memory, tensors and nested containers of them: whether two are the same.

`export/program.py` and `adaptation/kept_curves.py` name cached work by them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

_PLAIN = (bool, int, float, str, bytes, type(None))


def bytes_of(tensor: Tensor) -> bytes:
    """Return the values of a tensor of any type as bytes, whatever its memory order and device."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    values: NDArray[np.uint8] = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
    return values.tobytes()


def digest_of(values: Any) -> str | None:
    """Return the SHA-256 of nested containers of tensors and plain values, in hex; ``None`` if they hold others."""
    digest = hashlib.sha256()
    for path, value in pytree.tree_leaves_with_path(values):
        digest.update(f"{pytree.keystr(path)}:".encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(bytes_of(value))
        elif isinstance(value, _PLAIN):
            digest.update(repr(value).encode())
        else:
            return None
    return digest.hexdigest()
