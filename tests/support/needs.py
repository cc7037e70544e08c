"""What a test needs of the machine: where it lacks, the test fails in CI and is skipped elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import NoReturn

import pytest


def lacking(message: str) -> NoReturn:
    """End the test, or the collection of a module, because ``message`` is true here."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message, allow_module_level=True)


def needs(*modules: str) -> None:
    """End a test, or a test module, that needs modules which are not installed; they are not imported here."""
    if missing := [name for name in modules if find_spec(name) is None]:
        lacking(f"not installed: {', '.join(missing)}")


def needs_vulkan() -> None:
    """End a test that needs a Vulkan device; a driver in software will do."""
    count = "import ncnn.ncnn as n; print(n.get_gpu_count())"
    done = subprocess.run([sys.executable, "-P", "-c", count], capture_output=True, text=True, check=False)
    if done.stdout.strip() in ("", "0"):
        lacking("no Vulkan device; Mesa's software driver is the package mesa-vulkan-drivers")
