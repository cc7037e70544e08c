"""netadapt: give it a trained PyTorch network, a device and a budget; it gives back a family of smaller networks.

Everything here is loaded on first use, so that `import netadapt` costs nothing and a measuring process stays small.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netadapt.adaptation import Adaptation as Adaptation
    from netadapt.adaptation import Step as Step
    from netadapt.adaptation import adapt as adapt
    from netadapt.budget import Budget as Budget
    from netadapt.errors import NetAdaptError as NetAdaptError
    from netadapt.family import Family as Family
    from netadapt.family import Variant as Variant
    from netadapt.network import Network as Network
    from netadapt.network import load as load
    from netadapt.network import register_attribute_fixer as register_attribute_fixer
    from netadapt.network import register_rule as register_rule
    from netadapt.network import trace as trace
    from netadapt.platforms import Measurement as Measurement
    from netadapt.platforms import measure as measure
    from netadapt.scores import Score as Score
    from netadapt.training.task import Task as Task

_HOMES = {
    "Adaptation": "netadapt.adaptation",
    "Budget": "netadapt.budget",
    "Family": "netadapt.family",
    "Measurement": "netadapt.platforms",
    "NetAdaptError": "netadapt.errors",
    "Network": "netadapt.network",
    "Score": "netadapt.scores",
    "Step": "netadapt.adaptation",
    "Task": "netadapt.training.task",
    "Variant": "netadapt.family",
    "adapt": "netadapt.adaptation",
    "load": "netadapt.network",
    "measure": "netadapt.platforms",
    "register_attribute_fixer": "netadapt.network",
    "register_rule": "netadapt.network",
    "trace": "netadapt.network",
}

__all__ = sorted([*_HOMES, "__version__"])
__version__ = version("netadapt")


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'netadapt' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
