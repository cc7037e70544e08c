from __future__ import annotations

from _markdown import table


def test_cells_stand_as_they_are():
    assert table(["a", "*b*"], [["`1`", "x"], ["", "**2**"]]) == "| a | *b* |\n| --- | --- |\n| `1` | x |\n|  | **2** |"
