"""``netadapt status``."""

from __future__ import annotations

import json
from pathlib import Path

KEYS = {"budget", "met", "initial", "final", "family", "steps", "training_images", "forward_images", "search_seconds"}


def test_json_has_the_promised_keys(cli, finished: Path) -> None:
    told = json.loads(cli("status", finished, "--json").out)
    assert told.keys() >= KEYS
    for entry in (told["initial"], told["final"]):
        assert entry.keys() >= {"latency_ms", "accuracy", "macs", "parameters"}
    for step in told["steps"]:
        assert step.keys() >= {"iteration", "group", "widths", "estimated_ms", "measured_ms", "accuracy"}
    assert all("tuned" in entry for entry in told["family"])


def test_text_tells_the_steps(cli, finished: Path) -> None:
    answer = cli("status", finished)
    assert answer.code == 0
    assert "state      done" in answer.out
    assert "(met)" in answer.out
    assert "measured ms" in answer.out


def test_names_from_a_journal_cannot_move_the_cursor(cli, tmp_path: Path) -> None:
    from netadapt.runs.journal import Record, encode

    initial = {"resources": {"latency": 1.0, "macs": 1.0, "parameters": 1.0}}
    data = {"budget": {"latency": 0.5}, "initial": initial, "model": "\x1b]0;owned\x07", "platform": "\x1b[2J"}
    (tmp_path / "journal.jsonl").write_bytes(encode(Record(1, "2026-01-01T00:00:00Z", "start", data)))
    answer = cli("status", tmp_path)
    assert answer.code == 0
    assert "\x1b" not in answer.out
    assert "owned" in answer.out
