"""What `netadapt status --json` prints."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from netadapt.runs.config import make_config
from netadapt.runs.folder import RunFolder
from netadapt.runs.journal import read_records
from netadapt.runs.state import State, fold
from netadapt.runs.status import group_of, status, summarise

FROZEN = {"budget", "met", "initial", "final", "family", "steps", "training_images", "forward_images", "search_seconds"}
NUMBERS = {"latency_ms", "accuracy", "macs", "parameters"}


def test_the_frozen_keys_are_there(make_run):
    told = status(make_run(steps=26))
    assert told.keys() >= FROZEN
    assert told["initial"].keys() >= NUMBERS
    assert told["final"].keys() >= NUMBERS | {"tuned"}
    assert all(entry.keys() >= NUMBERS | {"tuned"} for entry in told["family"])
    wanted = {"iteration", "group", "widths", "estimated_ms", "measured_ms", "accuracy"}
    assert all(step.keys() >= wanted for step in told["steps"])
    assert json.loads(json.dumps(told)) == told


def test_a_finished_run(make_run):
    told = status(make_run(steps=26))
    assert told["met"] is True
    assert told["budget"] == {"latency": 0.4995}
    assert told["initial"]["accuracy"] == 0.664
    assert told["final"]["accuracy"] == 0.647
    assert told["final"]["latency_ms"] == pytest.approx(0.481, abs=1e-3)
    assert told["final"]["tuned"] is True
    assert told["state"] == "done"
    assert len(told["family"]) == 27
    assert told["training_images"] == 26 * 6000 + 90_000
    assert [entry["variant"] for entry in told["family"] if entry["tuned"]] == ["000", "026"]


def test_an_unfinished_run(make_run):
    told = status(make_run(steps=3, finished=False))
    assert (told["met"], told["final"], told["state"], told["running"]) == (False, None, "searching", None)
    assert told["steps"][2]["group"] == "features.7"


def test_before_the_start():
    told = summarise(State())
    assert told.keys() >= FROZEN
    assert (told["initial"], told["family"], told["state"]) == (None, [], "preparing")


def test_a_run_that_goes_on_names_its_process(tmp_path):
    config = make_config({"model": {"source": "x"}, "budget": {"latency": "50%"}, "task": {"source": "digits"}})
    with RunFolder(tmp_path, config):
        assert status(tmp_path)["running"]["pid"] > 0
    assert status(tmp_path)["running"] is None


def test_every_prefix_has_a_status(make_run):
    records = read_records(make_run(steps=2) / "journal.jsonl")
    for length in range(len(records) + 1):
        assert summarise(fold(records[:length])).keys() >= FROZEN


def test_groups_of_a_step():
    assert group_of({"group": "a"}) == "a"
    assert group_of({"groups": ["a", "b"]}) == "a + b"
    assert group_of({}) is None


def test_the_trained_file_s_own_latency_replaces_the_step_s(make_run):
    state = fold(read_records(make_run(steps=2) / "journal.jsonl"))
    final = state.final | {"measured": {"latency": 0.5, "macs": 1}}
    told = summarise(replace(state, final=final))
    assert told["final"]["latency_ms"] == told["family"][-1]["latency_ms"] == 0.5
    assert told["steps"][-1]["measured_ms"] == pytest.approx(0.937, abs=1e-3)
