from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from netadapt.network.source import SourceLine, line_in_text, line_of_error


def test_a_line_as_text_has_no_folder():
    assert str(SourceLine(Path("/home/me/net.py"), 41)) == "net.py:41"


def test_the_innermost_line_outside_torch_is_told():
    try:
        nn.Linear(3, 2)(torch.zeros(1, 4))
    except RuntimeError as error:
        line = line_of_error(error)
    assert line is not None and line.file == Path(__file__)
    assert "nn.Linear(3, 2)" in Path(__file__).read_text().splitlines()[line.line - 1]


def test_a_printed_traceback_is_read():
    inside = f'File "{Path(torch.__file__).parent}/nn/modules/conv.py", line 5, in forward'
    text = f'File "/a/net.py", line 3, in forward\n  x\n{inside}\n'
    assert line_in_text(text) == SourceLine(Path("/a/net.py"), 3)
    assert line_in_text(inside) is None
    assert line_in_text("nothing") is None
