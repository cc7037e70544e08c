from __future__ import annotations

import graph_coverage
import pytest
from _record import provenance
from coverage_page import gather, making, page, restore, their_outcome, totals

COST = {"processor_s": 9.0, "peak_mb": 900.0}


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Results of two versions: the later one has a result of one network only."""
    monkeypatch.setattr(graph_coverage, "FOUND", tmp_path)
    for version, names in {"old": ("timm:a", "timm:b"), "new": ("timm:b",), "tp": ("timm:a",)}.items():
        for name in names:
            day, processor = ("2026-01-02", "Q") if version == "new" else ("2026-01-01", "P")
            made = {"date": day, "machine": {"processor": processor, "threads": "1"}}
            graph_coverage.write(graph_coverage.path_of(name, version), COST | {"failure": version} | made)


def test_the_last_version_that_has_a_result_counts(kept):
    found = gather(["old", "new"], "tp", ["timm:a", "timm:b", "timm:c"])
    assert {name: row["ours"]["version"] for name, row in found.items()} == {"timm:a": "old", "timm:b": "new"}
    assert [row["ours"]["failure"] for row in found.values()] == ["old", "new"]
    assert found["timm:a"]["theirs"]["failure"] == "tp" and found["timm:b"]["theirs"] is None
    assert making(found) == {
        "first": "2026-01-01", "last": "2026-01-02", "processors": ["P, OMP_NUM_THREADS 1", "Q, OMP_NUM_THREADS 1"]
    }  # fmt: skip


def test_committed_results_can_be_put_back(kept, tmp_path, monkeypatch):
    names = ["timm:a", "timm:b"]
    before = gather(["old", "new"], "tp", names)
    found = making(before)
    versions = {"ours": "old, new", "theirs": "tp"}
    document = {"versions_compared": versions, "found": found, "networks": before, **provenance()}
    monkeypatch.setattr(graph_coverage, "FOUND", tmp_path / "fresh")
    assert gather(["old", "new"], "tp", names) == {}
    assert restore(document) == 3
    assert gather(["old", "new"], "tp", names) == before
    assert restore(document) == 0


def ours(outcome="equal", pinned=0.1, ratio=3.0, memory=500.0):
    cut = {"outcome": outcome} | ({} if outcome == "nothing to cut" else {"difference": 1e-15, "effect": 0.3})
    reasons = [{"reason": "a | reason <here>", "share": pinned}]
    return COST | {
        "side": 64, "trace_s": ratio, "export_s": 1.0, "memory_mb": memory, "macs": 10**6, "groups": 3,
        "pinned_share": pinned, "reasons": reasons, "cut": cut, "version": "abc",
    }  # fmt: skip


INEXACT = {
    "groups": 4, "inexact_groups": 3, "pinned_share": 0.2, "outcome": "runs",
    "reasons": [{"reason": "the rest", "share": 0.2}],
}  # fmt: skip
FOUND = {
    "torchvision:a": {"ours": ours(), "theirs": COST | {"outcome": "equal", "difference": 1e-15}},
    "timm:b": {"ours": ours(pinned=0.7, ratio=6.0), "theirs": COST | {"failure": "KeyError: 3 at x.py:1"}},
    "timm:c": {"ours": ours("wrong values", memory=5000.0), "theirs": COST | {"failure": "needs more than 8 GB of"}},
    "timm:d": {"ours": ours("nothing to cut", pinned=1.0), "theirs": None},
    "timm:f": {"ours": ours("nothing to cut", pinned=1.0) | {"inexact": INEXACT}, "theirs": None},
    "timm:e": {"ours": COST | {"failure": "ModelError: no", "version": "abd"}, "theirs": None},
}


def test_totals_count_every_outcome_once():
    counted = totals(FOUND)
    assert list(counted) == ["torchvision, classifiers", "timm"]
    row = counted["timm"]
    assert [row[key] for key in ("networks", "not_traced", "cut_equal", "nothing_to_cut", "wrong")] == [5, 1, 1, 2, 1]
    assert (row["half_adaptable"], row["half_adaptable_inexact"]) == (1, 2)
    assert (row["ratio_worst"], row["ratio_above_limit"], row["memory_above_limit"]) == (6.0, 1, 1)
    assert row["torch_pruning"] == {"error": 1, "out of bounds": 1}


def test_what_became_of_a_network_in_torch_pruning():
    assert their_outcome({"outcome": "wrong values"}) == "wrong values"
    assert their_outcome({"failure": "needs more than 180 s of processor time"}) == "out of bounds"


def test_the_page_names_what_is_refused_and_why():
    text = page(FOUND, totals(FOUND), {"ours": "abc", "theirs": "torch-pruning-1"})
    refused = text.partition("## Networks with less")[2].partition("## All")[0]
    assert "`timm:e`: ModelError: no" in refused
    assert "`timm:b`: 70 % pinned, equal: 70 % a \\| reason &lt;here>" in refused
    assert "`timm:c`" in refused
    assert "with inexact groups 20 % pinned (3 inexact groups, runs): 20 % the rest" in refused
    assert "`torchvision:a`" not in refused
    assert text.count("\n| `t") == len(FOUND)
    assert "not run" in text and "`abc` (5 networks) and `abd` (1 networks)" in text
