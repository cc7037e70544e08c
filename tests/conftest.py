"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from needs import lacking, needs


@pytest.fixture(scope="session")
def netadapt_data() -> Path:
    """The folder with the development data; where it lacks, the test fails in CI and is skipped elsewhere."""
    folder = Path(os.environ.get("NETADAPT_DATA", ""))
    if "NETADAPT_DATA" not in os.environ or not (folder / "weights").is_dir():
        lacking(f"NETADAPT_DATA={os.environ.get('NETADAPT_DATA', '')} is not the folder of the development data")
    return folder.resolve()


@pytest.fixture(autouse=True)
def needed_modules(request: pytest.FixtureRequest) -> None:
    """Without a module that ``@pytest.mark.needs`` names, the test fails in CI and is skipped elsewhere."""
    needs(*(name for mark in request.node.iter_markers("needs") for name in mark.args))
