from __future__ import annotations

import pytest
from _ablations import ablations
from cells import ABLATIONS, difference, parent
from summary import found_in

from .conftest import document, ends


@pytest.mark.parametrize(
    ("ablation", "differs"),
    [
        ("netadapt-short-0", "short_term.images = 0"),
        ("netadapt-step-12", "first_step = 12%"),
        ("netadapt-groups-1", "groups_per_step = default"),
        ("netadapt-contenders-3", "contenders = 3, groups_per_step = default"),
        ("one-shot-selection-10", "selection = 10"),
        ("uniform-norm", "filters = norm"),
    ],
)
def test_what_an_ablation_differs_in(ablation, differs):
    assert difference(ablation) == differs
    assert ablation.startswith(parent(ablation))


def test_every_ablation_has_a_parent():
    assert {parent(ablation) for ablation in ABLATIONS} == {"netadapt", "one-shot", "uniform"}


def test_each_ablation_stands_under_its_parent():
    more = {"steps": 7, "accuracy_before_long_term": 0.5}
    documents = [
        *ends(0.9),
        document("netadapt", "20%", 0.2, 0.7, search_images=300, forward_images=300) | more,
        document("netadapt-short-0", "20%", 0.2, 0.72, search_images=0, forward_images=300) | more,
        document("uniform", "20%", 0.2, 0.6),
        document("uniform-norm", "20%", 0.2, 0.55),
        document("uniform", "50%", 0.5, 0.8),
    ]
    page = ablations(found_in(documents, replicates=100).setups)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == ["netadapt", "netadapt-short-0", "uniform", "uniform-norm"]
    assert rows[2][2:] == ["7", "20.0", "50.0", "70.0", "", "400", "13"]
    assert rows[3][6].startswith("2.00 (")
    assert rows[5][2:6] == ["-", "20.0", "-", "55.0"]
    assert rows[5][6].startswith("-5.00 (")


def test_without_an_ablation_there_is_no_table():
    assert ablations(found_in([document("uniform", "20%", 0.2, 0.6)], replicates=10).setups) is None
