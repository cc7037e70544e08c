"""The state of a fine-tune on disk: one safetensors file with JSON in its metadata, replaced atomically.

Written by `loop.py` after each epoch, read when a killed fine-tune is started again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from netadapt.files import write_atomic

log = getLogger("netadapt")


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], numbers: Mapping[str, float], identity: Mapping[str, Any]
) -> None:
    """Replace ``path``.

    Args:
        path: the file; its folder must exist.
        tensors: on any device, in any memory order.
        numbers: counters; floats come back bit for bit.
        identity: what a later `read_checkpoint` must agree with; JSON types only.
    """
    metadata = {"numbers": json.dumps(dict(numbers)), "identity": json.dumps(dict(identity), sort_keys=True)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, save(plain, metadata))


def read_checkpoint(path: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, float]] | None:
    """Return tensors and numbers, or ``None`` where the file is missing, damaged or of another training.

    A file that cannot be used costs time, not correctness: it is reported in the log and training starts anew.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        numbers = json.loads(metadata["numbers"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        log.warning("%s is damaged (%s): training starts again from its beginning", path, error)
        return None
    if metadata.get("identity") != json.dumps(dict(identity), sort_keys=True):
        log.warning("%s is of another training (recipe, seed or network differ): training starts anew", path)
        return None
    return tensors, numbers
