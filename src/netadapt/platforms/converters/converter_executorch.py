"""executorch's converter: a program whose operators go to XNNPACK wherever it has them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from executorch.extension.pybindings import portable_lib


def convert(program: Any) -> bytes:
    """Return the ``.pte`` file of a program."""
    logging.disable(logging.WARNING)
    content: bytes = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
    return content


def run(content: bytes, inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a ``.pte`` file."""
    portable_lib._unsafe_reset_threadpool(1)
    module = portable_lib._load_for_executorch_from_buffer(content)
    return [output.numpy() for output in module.forward([torch.from_numpy(value) for value in inputs])]
