"""From a platform string to a platform: ``local/onnxruntime?threads=2``, ``simulated?noise=0.02&staircase=8``.

A string names a device and a runtime, or a platform as a whole, which may have an address: ``command:./measure.sh``.
Whole platforms of third parties register under the entry point group ``netadapt.platforms``; ours also work where no
entry points are installed.
"""

from __future__ import annotations

import inspect
import shutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

from netadapt.errors import PlatformError, did_you_mean
from netadapt.platforms.assembled import AssembledPlatform
from netadapt.platforms.base import Platform
from netadapt.platforms.parts import Runtime

GROUP = "netadapt.platforms"
_RUNTIMES = {
    "executorch": "netadapt.platforms.runtimes.executorch:ExecuTorch",
    "litert": "netadapt.platforms.runtimes.litert:LiteRt",
    "ncnn": "netadapt.platforms.runtimes.ncnn:Ncnn",
    "onnxruntime": "netadapt.platforms.runtimes.onnxruntime:OnnxRuntime",
    "openvino": "netadapt.platforms.runtimes.openvino:OpenVino",
    "torch": "netadapt.platforms.runtimes.torch:Torch",
}
#: a device's address begins with its scheme
_DEVICES = {
    "adb": "netadapt.platforms.devices.adb:Adb",
    "local": "netadapt.platforms.devices.local:Local",
    "ssh": "netadapt.platforms.devices.ssh:Ssh",
}
_WHOLE = {
    "simulated": "netadapt.platforms.simulated:SimulatedPlatform",
}
#: whole platforms with an address behind the colon, in which slashes mean nothing to us
_ADDRESSED = {
    "command": "netadapt.platforms.devices.command:CommandPlatform",
}

Factory = Callable[..., Any]
Parameters = dict[str, tuple[type, Any]]  # name -> type and default


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


def _wholes() -> dict[str, str]:
    """Return ``module:attribute`` of every platform that is not assembled; ours cannot be replaced."""
    foreign = {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)}
    return {name: home for name, home in foreign.items() if name not in _RUNTIMES} | _WHOLE


def _factory(name: str, home: str) -> Factory:
    """Import a platform or a part of one.

    Raises:
        PlatformError: its module cannot be imported, or what it needs is not installed.
    """
    module, _, attribute = home.partition(":")
    try:
        factory: Factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        package = getattr(error, "name", None)
        hint = f"; run: pip install {package}" if package else ""
        raise PlatformError(f"platform {name!r} ({home}) cannot be imported: {error}{hint}") from error
    needed = getattr(factory, "requires", None) or {}
    for part, package in ({needed: needed} if isinstance(needed, str) else needed).items():
        if find_spec(part) is None:
            raise PlatformError(f"platform {name!r} is not installed; run: pip install {package}")
    return factory


def _lacking_program(factory: Factory) -> str:
    """Return what to install for a program of this machine that a device is reached through; empty if it is there."""
    programs: Mapping[str, str] = getattr(factory, "programs", None) or {}
    return "; ".join(
        f"the program {name} is not installed; run: {hint}" for name, hint in programs.items() if not shutil.which(name)
    )


def _parameters(factory: Factory) -> Parameters:
    """Return type and default of the factory's parameters that can be written in a string."""
    target = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(target)
    found = {}
    for parameter in inspect.signature(factory).parameters.values():
        kind = hints.get(parameter.name, str)
        if kind in (int, float, str, bool) and parameter.name != "address":
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


def _arguments(query: str, allowed: Parameters, name: str) -> dict[str, Any]:
    """Parse what follows the question mark."""
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
        text: ``[DEVICE/]NAME[?parameter=value&...]``, the device is ``local`` if none is named; or
            ``command:PROGRAM[?parameter=value&...]``. The result's ``name`` is the canonical form.

    Raises:
        PlatformError: the platform is unknown or not installed, or a parameter is wrong.
    """
    path, _, query = text.strip().partition("?")
    scheme, colon, address = path.partition(":")
    if colon and scheme in _ADDRESSED:
        factory = _factory(scheme, _ADDRESSED[scheme])
        addressed: Platform = factory(address, **_arguments(query, _parameters(factory), scheme))
        return addressed
    device, slash, name = path.rpartition("/")
    device = device if slash else "local"
    scheme = device.partition(":")[0]
    if scheme not in _DEVICES:
        hint = did_you_mean(scheme, list(_DEVICES))
        raise PlatformError(
            f"device {device!r} of platform {text!r} is unknown{hint}; there is {', '.join(sorted(_DEVICES))}."
        )
    wholes = _wholes()
    if name in wholes and scheme == "local":
        factory = _factory(name, wholes[name])
        platform: Platform = factory(**_arguments(query, _parameters(factory), name))
        return platform
    if name not in _RUNTIMES:
        known = sorted({*wholes, *_RUNTIMES})
        raise PlatformError(f"platform {text!r} is unknown{did_you_mean(name, known)}; there are {', '.join(known)}.")
    return _assembled(device, _factory(scheme, _DEVICES[scheme]), _factory(name, _RUNTIMES[name]), query, name)


def make_runtime(name: str) -> Runtime:
    """Return the runtime of that name with its default options; the caller closes it.

    Raises:
        PlatformError: it is not installed.
    """
    runtime: Runtime = _factory(name, _RUNTIMES[name])()
    return runtime


def _assembled(address: str, device: Factory, runtime: Factory, query: str, name: str) -> Platform:
    """Return a platform of two parts, each of which takes its own parameters."""
    runs: tuple[str, ...] | None = getattr(device, "runtimes", None)
    if runs is not None and name not in runs:
        raise PlatformError(f"device {address!r} runs {', '.join(runs)}, not {name!r}.")
    of_device, of_runtime = _parameters(device), _parameters(runtime)
    given = _arguments(query, of_device | of_runtime, name)
    own = {key: value for key, value in given.items() if key in of_runtime}
    rest = {key: value for key, value in given.items() if key in of_device}
    return AssembledPlatform(runtime(**own), device(address.partition(":")[2], **rest))


def list_platforms() -> list[PlatformInfo]:
    """Return all registered runtimes, devices and platforms and whether they can be used here, sorted by name.

    The device ``local`` is left out: its parameters are the runtimes' own.
    """
    infos = []
    devices = {name: home for name, home in _DEVICES.items() if name != "local"}
    for name, home in sorted((_wholes() | _RUNTIMES | _ADDRESSED | devices).items()):
        try:
            factory = _factory(name, home)
        except PlatformError as error:
            infos.append(PlatformInfo(name, "not installed", str(error), {}))
            continue
        of_device = _parameters(_factory("local", _DEVICES["local"])) if name in _RUNTIMES else {}
        if lacking := _lacking_program(factory):
            infos.append(PlatformInfo(name, "not installed", lacking, {}))
            continue
        parameters = of_device | _parameters(factory)
        defaults = {key: default for key, (_, default) in parameters.items()}
        infos.append(PlatformInfo(name, "ready", getattr(factory, "description", ""), defaults))
    return infos
