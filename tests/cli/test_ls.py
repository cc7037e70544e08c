"""``netadapt ls``."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("platforms", "simulated"),
        ("models", "mobilenet_v2"),
        ("methods", "netadapt"),
        ("methods", "one-shot"),
        ("formats", "safetensors"),
    ],
)
def test_lists_what_there_is(cli, kind: str, name: str) -> None:
    entries = json.loads(cli("ls", kind, "--json").out)
    assert all({"name", "state", "description", "arguments"} <= entry.keys() for entry in entries)
    assert {entry["state"] for entry in entries if entry["name"] == name} == {"ready"}
    assert name in cli("ls", kind).out


def test_says_what_is_not_installed(cli) -> None:
    entries = {entry["name"]: entry["state"] for entry in json.loads(cli("ls", "models", "--json").out)}
    assert entries["timm:NAME"] == ("ready" if find_spec("timm") else "not installed")


def test_an_unknown_kind_is_usage(cli) -> None:
    answer = cli("ls", "pruners")
    assert answer.code == 2
    assert "platforms" in answer.err
