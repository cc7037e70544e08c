"""The closing text of a run."""

from __future__ import annotations

from pathlib import Path

from netadapt.cli.summary import summary
from netadapt.runs.journal import Record, encode


def test_tells_before_and_after_and_where_things_lie(finished: Path) -> None:
    text = summary(finished)
    for word in ("original", "accuracy (test)", "±", "the budget is met", "kept", "netadapt export", "uniform width"):
        assert word in text


def test_a_run_that_has_just_begun_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(encode(Record(1, "2026-01-01T00:00:00Z", "other", {})))
    assert "has not measured" in summary(tmp_path)
