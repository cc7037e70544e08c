"""An ssh server for the tests of devices."""

from __future__ import annotations

import os

import pytest
from sshd import Sshd, missing


@pytest.fixture
def sshd(tmp_path_factory, monkeypatch):
    """A real ssh server on loopback; where OpenSSH lacks, the test fails in CI and is skipped elsewhere."""
    if lacking := missing():
        message = f"{', '.join(lacking)} missing; run: apt-get install openssh-server openssh-client"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    monkeypatch.setenv("PATH", f"{server.bin}{os.pathsep}{os.environ['PATH']}")
    yield server
    server.die()
