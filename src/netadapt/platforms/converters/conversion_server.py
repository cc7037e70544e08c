"""The process that converts networks, so that what converters import, print and break stays out of ours.

Started by path with the converter's name by `runtimes/conversion_client.py`. Each converter is a module
``converter_NAME`` beside this one with

* ``convert(program) -> bytes``: the file that the runtime loads, of a `torch.export.ExportedProgram`;
* ``run(content, inputs) -> list of arrays``: the outputs of that file, one thread, in the program's order.

A message is eight bytes, big-endian, that say how long it is, and the message. A request is one message: what
`torch.export.save` writes; it comes from the process that started this one, never from a file. The answer is a JSON
object: ``{"error": ...}``, or ``{}`` followed by the file and by the outputs as numpy's ``.npz``. All ends with stdin.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

ERROR_LINES = 3


def send(pipe: int, message: bytes) -> None:
    """Write one message."""
    rest = memoryview(len(message).to_bytes(8, "big") + message)
    while rest:
        rest = rest[os.write(pipe, rest) :]


def receive(pipe: int) -> bytes | None:
    """Read one message; ``None`` where the pipe ends."""
    head = read(pipe, 8)
    return None if head is None else read(pipe, int.from_bytes(head, "big"))


def read(pipe: int, size: int) -> bytes | None:
    """Read ``size`` bytes; ``None`` where the pipe ends before."""
    buffer = bytearray()
    while len(buffer) < size:
        chunk = os.read(pipe, min(size - len(buffer), 1 << 20))
        if not chunk:
            return None
        buffer += chunk
    return bytes(buffer)


def answer(converter: Any, request: bytes) -> tuple[bytes, ...]:
    """Convert and run one network; return the messages of the answer."""
    import numpy as np
    import torch

    try:
        program = torch.export.load(io.BytesIO(request))
        content = converter.convert(program)
        inputs = [tensor.numpy() for tensor in program.example_inputs[0]]
        outputs = converter.run(content, inputs)
    except Exception as error:  # noqa: BLE001  converters raise anything; the client reports it
        lines = str(error).strip().splitlines()[:ERROR_LINES]
        return (json.dumps({"error": f"{type(error).__name__}: {' '.join(lines)}"}).encode(),)
    arrays = io.BytesIO()
    np.savez(arrays, *outputs)
    return b"{}", content, arrays.getvalue()


def main() -> None:
    """Serve until stdin closes."""
    # Whatever a library prints must not end up between our messages.
    replies = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    converter = importlib.import_module(f"converter_{sys.argv[1]}")
    send(replies, b"{}")
    while (request := receive(0)) is not None:
        for message in answer(converter, request):
            send(replies, message)


if __name__ == "__main__":
    main()
