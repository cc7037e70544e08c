"""The archive that is pushed to devices."""

from __future__ import annotations

import ast
import io
import sys
import zipfile

from netadapt.platforms.devices.archive import script_archive


def sources():
    with zipfile.ZipFile(io.BytesIO(script_archive())) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_equal_scripts_give_equal_bytes():
    first = script_archive()
    script_archive.cache_clear()
    assert script_archive() == first


def test_it_needs_python_and_runtimes_only():
    found = sources()
    ours = {name.removesuffix(".py") for name in found}
    assert {"measure_once", "session_server", "session_timing", "receive", "environment", "__main__"} <= ours
    for name, source in found.items():
        if name.startswith("engine_"):
            continue
        nodes = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names | ours, name


def test_old_pythons_can_read_it():
    for name, source in sources().items():
        tree = ast.parse(source, filename=name, feature_version=(3, 9))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        zips = [keyword.arg for call in calls if call.func.id == "zip" for keyword in call.keywords]
        assert "strict" not in zips, f"{name}: zip(strict=...) is of Python 3.10"
