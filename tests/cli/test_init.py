"""``netadapt init``."""

from __future__ import annotations

from netadapt.runs.config import load_config


def test_writes_a_configuration_that_can_be_read(here, cli) -> None:
    answer = cli("init")
    assert answer.code == 0
    assert "netadapt run netadapt.toml" in answer.out
    assert load_config(here / "netadapt.toml").task.source == "digits"


def test_never_replaces_a_file_unless_forced(here, cli) -> None:
    (here / "mine.toml").write_text("mine")
    answer = cli("init", "mine.toml")
    assert answer.code == 2
    assert "--force" in answer.err
    assert (here / "mine.toml").read_text() == "mine"
    assert cli("init", "mine.toml", "--force").code == 0
    assert "schema" in (here / "mine.toml").read_text()


def test_a_missing_folder_is_named(here, cli) -> None:
    answer = cli("init", "nowhere/x.toml")
    assert answer.code == 2
    assert "nowhere" in answer.err
