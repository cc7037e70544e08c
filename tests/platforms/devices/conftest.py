"""Devices for tests: an ssh server on loopback, and a stand-in phone."""

from __future__ import annotations

import os

import pytest
from needs import lacking
from sshd import Sshd, missing
from stand_in_phone import Phone, environment

from netadapt.platforms.devices import adb_client


@pytest.fixture
def sshd(tmp_path_factory, monkeypatch):
    """A real ssh server on loopback; where OpenSSH lacks, the test fails in CI and is skipped elsewhere."""
    if programs := missing():
        lacking(f"{', '.join(programs)} missing; run: apt-get install openssh-server openssh-client")
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
    yield server
    server.die()


@pytest.fixture
def phone(tmp_path_factory, monkeypatch):
    """A stand-in phone, and an `adb` program that talks to it."""
    home = tmp_path_factory.mktemp("phone")
    for key, value in environment(home).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(adb_client, "RETRY_S", 0.01)
    return Phone(home)
