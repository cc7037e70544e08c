"""Platform strings: canonical names, parameters, and messages for what is wrong."""

from __future__ import annotations

import pytest

from netadapt.errors import PlatformError
from netadapt.platforms import registry
from netadapt.platforms.registry import list_platforms, resolve_platform


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("onnxruntime", "local/onnxruntime?threads=1"),
        ("local/onnxruntime", "local/onnxruntime?threads=1"),
        ("local/onnxruntime?threads=1", "local/onnxruntime?threads=1"),
        ("onnxruntime?limit_s=20", "local/onnxruntime?threads=1"),
        ("simulated", "simulated"),
        ("local/simulated?noise=0.02&staircase=8", "simulated?staircase=8&noise=0.02"),
        (" simulated?failures=0 ", "simulated"),
    ],
)
def test_canonical_names(text, name):
    platform = resolve_platform(text)
    assert platform.name == name
    assert resolve_platform(platform.name).name == name
    platform.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onnxruntim", 'did you mean "onnxruntime"'),
        ("", "is unknown"),
        ("fax/onnxruntime", "device 'fax'"),
        ("local:here/onnxruntime", "local has no address"),
        ("onnxruntime?thread=2", 'did you mean "threads"'),
        ("ssh:host/onnxruntime", "is no address"),
        ("ssh://host/onnxruntim", 'did you mean "onnxruntime"'),
        ("onnxruntime?threads=two", "is not a whole number"),
        ("simulated?noise=loud", "is not a number"),
        ("simulated?noise", "write each parameter once"),
        ("simulated?noise=0.1&noise=0.2", "write each parameter once"),
        ("simulated?noise=2", "allowed are 0 to 1"),
    ],
)
def test_what_is_wrong_is_told(text, message):
    with pytest.raises(PlatformError, match=message):
        resolve_platform(text)


def test_the_list_has_ours_ready():
    states = {info.name: info for info in list_platforms()}
    assert states["onnxruntime"].state == states["simulated"].state == "ready"
    assert states["onnxruntime"].parameters["threads"] == 1
    assert states["simulated"].parameters["noise"] == 0


def test_a_device_without_the_program_that_reaches_it_is_not_ready(monkeypatch, tmp_path):
    (tmp_path / "adb").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    states = {info.name: info for info in list_platforms()}
    assert states["adb"].state == "ready"
    assert states["ssh"].state == "not installed"
    assert states["ssh"].description == "the program ssh is not installed; run: apt install openssh-client"


class Third:
    """A third party's platform that needs something exotic."""

    requires = "no_such_module_at_all"


def test_third_parties_are_listed_with_what_they_lack(monkeypatch):
    homes = {"third": f"{__name__}:Third", "gone": "no_such_module_at_all:X"}
    monkeypatch.setattr(registry, "_wholes", lambda: homes)
    monkeypatch.setattr(registry, "_RUNTIMES", {})
    monkeypatch.setattr(registry, "_ADDRESSED", {})
    monkeypatch.setattr(registry, "_DEVICES", {"local": registry._DEVICES["local"]})
    monkeypatch.setattr(registry, "import_module", lambda name: _import(name))
    assert {info.name: info.state for info in list_platforms()} == {"third": "not installed", "gone": "not installed"}
    for name in homes:
        with pytest.raises(PlatformError, match="pip install no_such_module_at_all"):
            resolve_platform(name)


def _import(name):
    if name == __name__:
        import types

        return types.SimpleNamespace(Third=Third)
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
