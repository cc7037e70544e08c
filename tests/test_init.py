from __future__ import annotations

import subprocess
import sys

import pytest

import netadapt


def test_the_public_names_are_exactly_these() -> None:
    assert netadapt.__all__ == sorted(
        [
            "Adaptation",
            "Budget",
            "Family",
            "Measurement",
            "NetAdaptError",
            "Network",
            "Score",
            "Step",
            "Task",
            "Variant",
            "__version__",
            "adapt",
            "load",
            "measure",
            "register_attribute_fixer",
            "register_rule",
            "trace",
        ]
    )
    assert dir(netadapt) == netadapt.__all__


@pytest.mark.parametrize("name", netadapt.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(netadapt, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'prune'"):
        _ = netadapt.prune


def test_importing_netadapt_imports_nothing_heavy() -> None:
    code = "import netadapt, sys; assert not {'torch', 'numpy', 'onnx', 'plotly'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
