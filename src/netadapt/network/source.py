"""Lines of the user's source: of a call in the graph, of an error, of a text that mentions some.

Frames inside torch and this package are skipped: what a user can change is told. Used for messages only.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import NamedTuple

import torch
from torch import fx

_TORCH, _OWN = str(Path(torch.__file__).parent), str(Path(__file__).parent)


class SourceLine(NamedTuple):
    """A line of a file; as text only ``file.py:12``, so that no path of a machine gets into files."""

    file: Path
    line: int

    def __str__(self) -> str:
        """Return ``file.py:12``."""
        return f"{self.file.name}:{self.line}"


def line_of_node(node: fx.Node) -> SourceLine | None:
    """Return the innermost line that made a call; torch.export remembers those within functions named forward."""
    return line_in_text(node.meta.get("stack_trace") or "")


def line_of_error(error: BaseException) -> SourceLine | None:
    """Return the innermost line of an error's traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_TORCH, _OWN, "<"))]
    return SourceLine(Path(frames[-1].filename), frames[-1].lineno or 0) if frames else None


def line_in_text(text: str) -> SourceLine | None:
    """Return the last line that a printed traceback mentions."""
    found = re.findall(r'File "?([^":\n]+\.py)"?(?:, line |:)(\d+)', text)
    own = [(file, line) for file, line in found if _TORCH not in file]
    return SourceLine(Path(own[-1][0]), int(own[-1][1])) if own else None
