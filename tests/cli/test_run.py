"""``netadapt run``: to the end, again, interrupted and resumed, without a reachable budget, and told wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def test_a_run_leaves_a_whole_folder(finished: Path) -> None:
    names = {"config.toml", "environment.json", "journal.jsonl", "curve.csv", "report.html", "variants"}
    assert names <= {path.name for path in finished.iterdir()}


def test_the_same_command_again_redoes_nothing_and_says_the_same(cli, finished: Path, workplace: Path) -> None:
    journal = (finished / "journal.jsonl").read_bytes()
    answer = cli("run", workplace / "small.toml", "--out", finished)
    assert answer.code == 0
    assert (finished / "journal.jsonl").read_bytes() == journal
    for word in ("latency", "parameters", "uniform width", "± ", "of the original", "report.html", "netadapt.load("):
        assert word in answer.out, word
    assert answer.err.count("group=") == 0  # no proposal was tuned


def test_json_is_the_status(cli, finished: Path, workplace: Path) -> None:
    told = json.loads(cli("run", workplace / "small.toml", "--out", finished, "--json").out)
    assert told["met"] is True
    assert told["final"]["latency_ms"] <= told["budget"]["latency"] * 1.01


def test_other_settings_do_not_resume(cli, finished: Path, workplace: Path) -> None:
    answer = cli("run", workplace / "small.toml", "--out", finished, "--set", "search.decay=0.9")
    assert answer.code == 2
    assert "search.decay: 0.96 -> 0.9" in answer.err


def test_a_dry_run_trains_nothing(cli, workplace: Path, tmp_path: Path) -> None:
    answer = cli("run", workplace / "small.toml", "--out", tmp_path / "dry", "--dry-run")
    assert answer.code == 0
    assert "floor" in answer.out
    assert not (tmp_path / "dry" / "variants").exists()
    plan = json.loads(cli("run", workplace / "small.toml", "--out", tmp_path / "dry", "--dry-run", "--json").out)
    assert plan["floor"]["latency"] < plan["budget"]["latency"] < plan["initial"]["latency"]


def test_a_budget_that_no_step_can_reach_keeps_the_family(cli, workplace: Path, tmp_path: Path) -> None:
    # without noise a budget hardly above the floor is accepted, and no estimate is sure that it can be met
    exact = ["--set", 'platform.name="simulated?noise=0"']
    dry = cli("run", workplace / "small.toml", "--out", tmp_path / "dry", "--dry-run", "--json", *exact)
    limit = f"{1.0005 * json.loads(dry.out)['floor']['latency']!r} ms"
    settings = ["--set", f'budget.latency="{limit}"', "--set", 'search.first_step="90%"', *exact]
    answer = cli("run", workplace / "small.toml", "--out", tmp_path / "run", *settings)
    assert answer.code == 3
    assert "family so far is kept" in answer.err
    assert "original" in answer.out
    assert json.loads(cli("status", tmp_path / "run", "--json").out)["state"] == "unreachable"
    assert (
        cli("export", tmp_path / "run", "--at", "initial", "--format", "safetensors", "--out", tmp_path / "s").code == 0
    )


def test_a_budget_below_the_floor_is_refused_before_training(cli, workplace: Path, tmp_path: Path) -> None:
    out = tmp_path / "low"
    answer = cli("run", workplace / "small.toml", "--out", out, "--set", 'budget.latency="5%"')
    assert answer.code == 2
    assert "cannot be reached" in answer.err
    assert not (out / "variants").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.dekay=0.9", ["search.dekay", 'did you mean "decay"']),
        ('budget.latency="8"', ["8 what?", "8 ms"]),
        ('platform.name="simulatd"', ["simulatd", "did you mean"]),
        ('task.source="digitz"', ["digitz", "did you mean"]),
        ('model.source="${NOWHERE}/x.py:f"', ["NOWHERE", "export NOWHERE="]),
        ("search", ["--set", "section.key=value"]),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(cli, workplace: Path, tmp_path: Path, override: str, words) -> None:
    answer = cli("run", workplace / "small.toml", "--out", tmp_path / "x", "--set", override)
    assert answer.code == 2
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err


def test_a_folder_that_cannot_be_written_is_named(cli, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = cli("run", workplace / "small.toml", "--out", tmp_path / "file" / "run")
    assert answer.code == 2
    assert "cannot be written" in answer.err


def test_a_foreign_folder_is_left_alone(cli, workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    answer = cli("run", workplace / "small.toml", "--out", tmp_path)
    assert answer.code == 2
    assert "thesis.tex" in answer.err


def test_a_damaged_journal_is_exit_code_5(cli, finished: Path, workplace: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"data"', b'"dada"')
    (run / "journal.jsonl").write_bytes(b"".join(lines))
    answer = cli("run", workplace / "small.toml", "--out", run)
    assert answer.code == 5
    assert "line 2" in answer.err
    assert cli("status", run).code == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_same_command_resumes(cli, workplace: Path, tmp_path: Path, number) -> None:
    out = tmp_path / "run"
    words = ["run", str(workplace / "small.toml"), "--out", str(out), "--set", 'search.first_step="4%"']
    code = "import sys; from netadapt.cli import main; sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    try:
        journal = out / "journal.jsonl"
        _wait(lambda: journal.exists() and b'"type":"iteration"' in journal.read_bytes(), child)
        os.kill(child.pid, number)
        _, err = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130, err
    assert "stopping at the next safe point" in err
    told = json.loads(cli("status", out, "--json").out)
    assert (told["running"], told["final"]) == (None, None)
    assert cli(*words).code == 0
    assert json.loads(cli("status", out, "--json").out)["met"] is True


def _wait(ready, child: subprocess.Popen[str]) -> None:
    for _ in range(2400):
        if ready() or child.poll() is not None:
            return
        time.sleep(0.05)
    raise AssertionError("the run never came so far")
