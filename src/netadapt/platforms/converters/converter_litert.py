"""litert's converter: a TFLite file with the inputs and outputs of the PyTorch network, channels inside last.

The converter itself chooses channels last for what it computes, as litert's kernels need it; the user's own layout of
inputs and outputs stays, with one transposition each, as in the converter's own guide.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import litert_torch
from ai_edge_litert.interpreter import Interpreter


def convert(program: Any) -> bytes:
    """Return the TFLite file of a program; numbers of 64 bits become numbers of 32."""
    logging.disable(logging.WARNING)
    converted = litert_torch.convert(program.module(), program.example_inputs[0])
    content: bytes = converted.model_content()
    return content


def run(content: bytes, inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a TFLite file."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    # inputs that the network does not use are not in the file
    feeds = {f"args_{i}": value for i, value in enumerate(inputs) if f"args_{i}" in details}
    outputs = runner(**{name: value.astype(details[name]["dtype"]) for name, value in feeds.items()})
    return [outputs[name] for name in sorted(outputs, key=_number)]


def _number(name: str) -> int:
    """Return 3 for ``output_3``."""
    return int(re.sub(r"\D", "", name) or 0)
