"""Fixtures of the devices' tests."""

from __future__ import annotations

import pytest
from stand_in_phone import Phone, environment

from netadapt.platforms.devices import adb_client


@pytest.fixture
def phone(tmp_path_factory, monkeypatch):
    """A stand-in phone, and an `adb` program that talks to it."""
    home = tmp_path_factory.mktemp("phone")
    for key, value in environment(home).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(adb_client, "RETRY_S", 0.01)
    return Phone(home)
