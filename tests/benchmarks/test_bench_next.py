from __future__ import annotations

import pytest
from bench_next import find, listing
from cells import CELLS


def test_every_cell_is_listed_and_found_by_its_name():
    lines = listing().splitlines()
    assert [line.split()[1] for line in lines] == [cell.name for cell in CELLS]
    assert {line.split()[0] for line in lines} <= {"done", "begun", "missing", "unknown"}
    assert find(CELLS[3].name) is CELLS[3]


def test_a_name_that_no_cell_has_is_refused():
    with pytest.raises(SystemExit, match='there is no cell "nothing"'):
        find("nothing")
