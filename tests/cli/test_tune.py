"""``netadapt tune``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from netadapt.family import Family


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    return run


def test_any_variant_can_be_tuned_once(cli, copy: Path, workplace: Path) -> None:
    family = Family.read(copy)
    name = next(variant.name for variant in family if not variant.tuned)
    command = ["tune", copy, "--at", name, "--config", workplace / "small.toml", "--json"]
    told = json.loads(cli(*command).out)
    assert told["tuned"] is True
    assert told["test_accuracy"] is not None
    assert (Path(told["folder"]) / "weights.safetensors").is_file()
    journal = (copy / "journal.jsonl").read_bytes()
    assert cli(*command).code == 0
    assert (copy / "journal.jsonl").read_bytes() == journal


def test_code_that_a_folder_names_needs_the_users_configuration(cli, copy: Path) -> None:
    answer = cli("tune", copy, "--at", "best")
    assert answer.code == 2
    assert "--config" in answer.err


def test_another_configuration_is_refused(cli, copy: Path, workplace: Path) -> None:
    answer = cli("tune", copy, "--at", "best", "--config", workplace / "small.toml", "--set", "search.decay=0.5")
    assert answer.code == 2
    assert "search.decay" in answer.err
