"""The text by which users name models and tasks: ``name?key=value&key=value`` or ``file.py:function``.

Called by `registry.py` here and by `training/datasets.py`; both turn a mistake into one clear error of their own class.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from netadapt.errors import NetAdaptError, UsageError, did_you_mean

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass(frozen=True)
class Spec:
    """A parsed text.

    Attributes:
        text: as the user wrote it.
        name: the part before ``?``.
        arguments: the part after it.
    """

    text: str
    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)


def parse_spec(text: str, error: type[UsageError]) -> Spec:
    """Split ``name?key=value&key=value``.

    Args:
        text: what the user wrote.
        error: the class to raise.

    Raises:
        UsageError: an argument has no ``=`` or appears twice.
    """
    name, _, query = text.strip().partition("?")
    arguments: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise error(f'"{part}" in "{text}" is not an argument: write name?key=value&key=value')
        if key in arguments:
            raise error(f'"{key}" appears twice in "{text}": leave one of them out')
        arguments[key] = value
    return Spec(text, name, arguments)


def expand_path(text: str, error: type[UsageError]) -> Path:
    """Return the path that ``text`` names, with ``~`` and environment variables (``${NAME}``) filled in.

    Raises:
        UsageError: a variable is not set.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise error(f'the environment variable {name} in "{text}" is not set: export {name}=... and try again')
        return os.environ[name]

    return Path(_VARIABLE.sub(value_of, text)).expanduser()


def call_with(function: Callable[..., Any], arguments: Mapping[str, Any], name: str, error: type[UsageError]) -> Any:
    """Call ``function`` with arguments given as text, converted to the types of its signature.

    Args:
        function: its parameters must be named; annotations or defaults tell their types.
        arguments: by name; values that are no text are passed as they are.
        name: how the user calls the function, for messages.
        error: the class to raise for a wrong argument.

    Raises:
        UsageError: an argument is unknown, missing or cannot be converted.
    """
    parameters = inspect.signature(function).parameters
    names = [key for key, parameter in parameters.items() if parameter.kind != parameter.VAR_POSITIONAL]
    for key in arguments:
        if key not in names:
            allowed = ", ".join(names) if names else "none"
            hint = did_you_mean(key, names)
            raise error(f'{name} has no argument "{key}"{hint}; its arguments: {allowed}')
    for key, parameter in parameters.items():
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and key not in arguments and not optional:
            raise error(f'{name} needs the argument "{key}": write {name}?{key}=...')
    values = {key: _converted(value, parameters[key], name, error) for key, value in arguments.items()}
    return function(**values)


def _converted(value: Any, parameter: inspect.Parameter, name: str, error: type[UsageError]) -> Any:
    if not isinstance(value, str):
        return value
    kind = _kind_of(parameter)
    try:
        if kind == "bool":
            return _boolean(value)
        if kind == "int":
            return int(value)
        return float(value) if kind == "float" else value
    except ValueError:
        wanted = {"bool": "1 or 0", "int": "a whole number", "float": "a number"}[kind]
        raise error(f"{name}: {parameter.name}={value} is not allowed: {wanted} is") from None


def _kind_of(parameter: inspect.Parameter) -> str:
    """Return the name of the parameter's type; annotations are text under ``from __future__ import annotations``."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        default = parameter.default
        return type(default).__name__ if default is not parameter.empty else "str"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return text.replace("None", "").strip(" |")


def _boolean(value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise ValueError(value)
    return value.lower() in _TRUE


def call_file(spec: Spec, error: type[UsageError], options: Mapping[str, Any] | None = None) -> Any:
    """Return what the function of ``file.py:function?arguments`` returns.

    The file's folder is importable while it is loaded and called, as when Python runs the file itself.

    Args:
        spec: of the form ``file.py:function``.
        error: the class to raise.
        options: further arguments, passed only where the function names them; those in the text win.

    Raises:
        UsageError: no such file or function, or the user's code raised.
    """
    file, _, function_name = spec.name.rpartition(":")
    path = expand_path(file, error).resolve()
    if not path.is_file():
        raise error(f'"{file}" in "{spec.text}" is not a file (looked for {path})')
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        module = _loaded(path, spec, error)
        function = getattr(module, function_name, None)
        if not callable(function):
            names = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
            known = ", ".join(names) or "none"
            hint = did_you_mean(function_name, names)
            raise error(f'{path.name} has no function "{function_name}"{hint}; its functions: {known}')
        known_options = {k: v for k, v in (options or {}).items() if k in inspect.signature(function).parameters}
        arguments = {**known_options, **spec.arguments}
        return _guarded(lambda: call_with(function, arguments, spec.name, error), path, spec, error)
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _loaded(path: Path, spec: Spec, error: type[UsageError]) -> Any:
    # one module object per file and content: classes stay the same on a second call, an edited file is read again
    name = f"netadapt_user_{path.stem}_{sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    module_spec = spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise error(f'"{path}" is not a Python file: MODEL and TASK files end in .py')
    module = module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        _guarded(lambda: module_spec.loader.exec_module(module), path, spec, error)  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _guarded(action: Callable[[], Any], path: Path, spec: Spec, error: type[UsageError]) -> Any:
    """Run the user's code; anything it raises becomes one message with the line of the user's file."""
    try:
        return action()
    except NetAdaptError:
        raise
    except SyntaxError as cause:
        raise error(f"{path.name}, line {cause.lineno}: not valid Python: {cause.msg}") from cause
    except Exception as cause:  # user code may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(cause.__traceback__) if frame.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        what = f"{type(cause).__name__}: {cause}"
        raise error(f'{path.name}{where}, while loading "{spec.text}": {what}') from cause
