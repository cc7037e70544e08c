"""The archive that is pushed to devices."""

from __future__ import annotations

import ast
import io
import sys
import zipfile

from netadapt.platforms.devices.archive import script_archive

RUNTIMES = {"numpy"}  # which `session_timing` imports for the inputs of those that have it
STDLIB = sys.stdlib_module_names


def sources():
    with zipfile.ZipFile(io.BytesIO(script_archive())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_equal_scripts_give_equal_bytes():
    first = script_archive()
    script_archive.cache_clear()
    assert script_archive() == first


def test_it_needs_python_and_runtimes_only():
    found = sources()
    ours = {name.removesuffix(".py").removesuffix("/__init__") for name in found}
    assert {"measure_once", "session_server", "session_timing", "receive", "environment", "__main__"} <= ours
    for name, source in found.items():
        if name.startswith("engine_"):
            continue
        nodes = list(ast.walk(ast.parse(source)))
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        others = {one.replace(".", "/") for one in modules - RUNTIMES if one.partition(".")[0] not in STDLIB}
        assert others <= ours, name


def test_old_pythons_can_read_it():
    for name, source in sources().items():
        tree = ast.parse(source, filename=name, feature_version=(3, 9))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        zips = [keyword.arg for call in calls if call.func.id == "zip" for keyword in call.keywords]
        assert "strict" not in zips, f"{name}: zip(strict=...) is of Python 3.10"
