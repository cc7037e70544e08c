"""From a platform string to a platform: ``local/onnxruntime?threads=2``, ``simulated?noise=0.02&staircase=8``.

Platforms register under the entry point group ``netadapt.platforms``; ours also work where no entry points are
installed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any, cast

from netadapt.errors import PlatformError, did_you_mean
from netadapt.platforms.base import Platform

GROUP = "netadapt.platforms"
_OURS = {
    "onnxruntime": "netadapt.platforms.onnxruntime:OnnxRuntime",
    "simulated": "netadapt.platforms.simulated:SimulatedPlatform",
}

Factory = Callable[..., Platform]


@dataclass(frozen=True)
class PlatformInfo:
    """A platform as listed to the user.

    Attributes:
        name: as written in a platform string.
        state: ``ready`` or ``not installed``.
        description: what it is, or how to install it.
        parameters: name and default of what may follow the question mark.
    """

    name: str
    state: str
    description: str
    parameters: Mapping[str, Any]


def _homes() -> dict[str, str]:
    """Return ``module:attribute`` of every registered platform; ours cannot be replaced."""
    return {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)} | _OURS


def _factory(name: str, home: str) -> Factory:
    """Import a platform.

    Raises:
        PlatformError: its module cannot be imported, or what it needs is not installed.
    """
    module, _, attribute = home.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        package = getattr(error, "name", None)
        hint = f"; run: pip install {package}" if package else ""
        raise PlatformError(f"platform {name!r} ({home}) cannot be imported: {error}{hint}") from error
    needed = getattr(factory, "requires", None)
    if needed is not None and find_spec(needed) is None:
        raise PlatformError(f"platform {name!r} is not installed; run: pip install {needed}")
    return cast(Factory, factory)


def _parameters(factory: Factory) -> dict[str, tuple[type, Any]]:
    """Return type and default of the factory's parameters that can be written in a string."""
    target = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(target)
    found = {}
    for parameter in inspect.signature(factory).parameters.values():
        kind = hints.get(parameter.name, str)
        if kind in (int, float, str, bool):
            found[parameter.name] = (kind, parameter.default)
    return found


def _value(text: str, kind: type, key: str, name: str) -> Any:
    """Convert one value of a platform string."""
    words = {"true": True, "1": True, "false": False, "0": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        what = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise PlatformError(f"platform {name!r}: {key}={text!r} is not {what}.") from None


def _arguments(query: str, factory: Factory, name: str) -> dict[str, Any]:
    """Parse what follows the question mark."""
    allowed = _parameters(factory)
    arguments: dict[str, Any] = {}
    for part in query.split("&") if query else []:
        key, equals, text = part.partition("=")
        if key not in allowed:
            raise PlatformError(
                f"platform {name!r} has no parameter {key!r}{did_you_mean(key, list(allowed))}; "
                f"it has {', '.join(allowed) or 'none'}."
            )
        if not equals or key in arguments:
            raise PlatformError(f"platform {name!r}: write each parameter once as {key}=VALUE, not {query!r}.")
        arguments[key] = _value(text, allowed[key][0], key, name)
    return arguments


def resolve_platform(text: str) -> Platform:
    """Return the platform that a string names; the caller closes it.

    Args:
        text: ``[local/]NAME[?parameter=value&...]``; the result's ``name`` is the canonical form.

    Raises:
        PlatformError: the platform is unknown or not installed, or a parameter is wrong.
    """
    path, _, query = text.strip().partition("?")
    device, slash, name = path.rpartition("/")
    if slash and device != "local":
        hint = did_you_mean(device, ["local"])
        raise PlatformError(f"device {device!r} of platform {text!r} is unknown{hint}; there is only local.")
    homes = _homes()
    if name not in homes:
        raise PlatformError(
            f"platform {text!r} is unknown{did_you_mean(name, list(homes))}; there are {', '.join(sorted(homes))}."
        )
    factory = _factory(name, homes[name])
    return factory(**_arguments(query, factory, name))


def list_platforms() -> list[PlatformInfo]:
    """Return all registered platforms and whether they can be used here, sorted by name."""
    infos = []
    for name, home in sorted(_homes().items()):
        try:
            factory = _factory(name, home)
        except PlatformError as error:
            infos.append(PlatformInfo(name, "not installed", str(error), {}))
        else:
            defaults = {key: default for key, (_, default) in _parameters(factory).items()}
            infos.append(PlatformInfo(name, "ready", getattr(factory, "description", ""), defaults))
    return infos
