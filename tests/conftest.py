"""Fixtures that all tests share."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def netadapt_data() -> Path:
    """The folder with the development data; where it lacks, the test fails in CI and is skipped elsewhere."""
    folder = Path(os.environ.get("NETADAPT_DATA", ""))
    if "NETADAPT_DATA" in os.environ and (folder / "weights").is_dir():
        return folder.resolve()
    message = f"NETADAPT_DATA={os.environ.get('NETADAPT_DATA', '')} is not the folder of the development data"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(autouse=True)
def needed_modules(request: pytest.FixtureRequest) -> None:
    """Without a module that ``@pytest.mark.needs`` names, the test fails in CI and is skipped elsewhere."""
    missing = [name for mark in request.node.iter_markers("needs") for name in mark.args if find_spec(name) is None]
    if missing:
        message = f"not installed: {', '.join(missing)}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
