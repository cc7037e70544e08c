"""Reads, checks, compares and writes the configuration of a run (the sections are in `settings.py`).

Called by the command line, by `adaptation/` for the Python call, and by `folder.py`, which refuses to resume
with other settings. All problems of a file are reported at once, each with its place, its value and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from netadapt.errors import ConfigError, did_you_mean
from netadapt.runs.settings import RunConfig, Section

#: keys that may differ between the first command and the one that resumes: they change no result
FREE_KEYS = ("run.folder", "report.")

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_OF_PYDANTIC = {
    "missing": "is missing",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list in brackets",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "string_too_short": "must not be empty",
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file.

    Args:
        path: the file.
        overrides: ``section.key=value`` each, as given with ``--set``; the value is read as TOML, else as text.

    Raises:
        ConfigError: the file cannot be read, or some keys or values are wrong; all of them are named.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"Configuration {path} cannot be read: {error.strerror}. Write one with: netadapt init"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Configuration {path} is not valid TOML: {error}.") from error
    return make_config(data, overrides, where=str(path), text=text)


def make_config(
    data: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "configuration", text: str = ""
) -> RunConfig:
    """Check settings that are already in memory.

    Args:
        data: nested tables as in the TOML file.
        overrides: as of `load_config`.
        where: what the messages call it.
        text: the TOML text, if there is one, for line numbers.

    Raises:
        ConfigError: as of `load_config`.
    """
    tables = _without_none(data)
    for override in overrides:
        _override(tables, override)
    problems = list(_expand(tables))
    try:
        config = RunConfig.model_validate(tables)
    except ValidationError as error:
        problems += [_sentence(problem) for problem in error.errors(include_url=False)]
    if problems:
        first = dict(reversed(problems))  # a union reports one problem for each member
        places = [f"{where}{_line_of(key, text)}: {key} {first[key]}" for key in dict(problems)]
        many = "1 problem" if len(places) == 1 else f"{len(places)} problems"
        raise ConfigError(f"{many} in {where}; nothing has been started.\n  " + "\n  ".join(places))
    return config


def _without_none(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested tables without the keys that hold None (TOML has no null)."""
    copied = {}
    for key, value in tables.items():
        if value is not None:
            copied[key] = _without_none(value) if isinstance(value, Mapping) else value
    return copied


def _override(tables: dict[str, Any], override: str) -> None:
    """Put one ``a.b=value`` into the nested tables."""
    key, equals, text = override.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise ConfigError(f'--set "{override}" cannot be read; write section.key=value, e.g. --set search.decay=0.9')
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = tables
    for name in names[:-1]:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f'--set "{override}": {name} is not a section; its value is {_shown(inner)}.')
        table = inner
    table[names[-1]] = value


def _expand(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Replace ``${NAME}`` in every text by the environment's value; yield a problem for each that is not set."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _expand(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            for name in sorted(set(_VARIABLE.findall(value)) - set(os.environ)):
                yield (
                    f"{prefix}{key}",
                    f"= {_shown(value)}: the environment variable {name} is not set; run: export {name}=...",
                )
            table[key] = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), value)


def _sentence(problem: Any) -> tuple[str, str]:
    """Translate one problem that pydantic found into its key and a sentence for people."""
    names = _names(problem["loc"])
    key = ".".join(names) or "configuration"
    if problem["type"] == "extra_forbidden":
        return key, f"is not a known key{_suggestion(names)}"
    if problem["type"] == "missing":
        return key, f"is missing; {_meaning(key)}"
    value = "" if isinstance(problem["input"], dict) else f"= {_shown(problem['input'])}: "
    if problem["type"] == "value_error":
        return key, f"{value}{problem['ctx']['error']}"
    said = _OF_PYDANTIC.get(problem["type"]) or problem["msg"].replace("Input should be", "must be")
    return key, f"{value}{said}; {_meaning(key)}"


def _names(place: Sequence[Any]) -> list[str]:
    """Return the names of the keys of a place; what follows a key is an index or a label of pydantic's for a union."""
    known = dict(keys())
    names: list[str] = []
    for part in place:
        if names and ".".join(names) in known and section_of(known[".".join(names)]) is None:
            break
        names.append(str(part))
    return names


def keys(section: type[Section] = RunConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every dotted key of a section with its field, sections before what they contain."""
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        yield key, field
        if inner := section_of(field):
            yield from keys(inner, key + ".")


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or None for a plain value."""
    for inner in (field.annotation, *get_args(field.annotation)):
        if isinstance(inner, type) and issubclass(inner, Section):
            return inner
    return None


def _meaning(key: str) -> str:
    """Return what a key means, with an example, for the end of an error."""
    field = dict(keys()).get(key)
    if field is None or not field.description:
        return "see: netadapt init"
    example = f", e.g. {toml_value(field.examples[0])}" if field.examples else ""
    return f"it is: {field.description}{example}"


def _suggestion(names: Sequence[str]) -> str:
    """Return the closest known key, or the keys of the section."""
    known = [key for key, _ in keys()]
    section = ".".join(names[:-1])
    here = [key.removeprefix(f"{section}." if section else "") for key in known if key.rpartition(".")[0] == section]
    if hint := did_you_mean(names[-1], here):
        return hint
    elsewhere = [key for key in known if key.rpartition(".")[2] == names[-1]]
    elsewhere = [key for key in elsewhere if section and key.startswith(f"{section}.")] or elsewhere
    if elsewhere:
        return f" (did you mean {' or '.join(elsewhere)}?)"
    return f"; known here: {', '.join(here)}" if here else ""


def _line_of(key: str, text: str) -> str:
    """Return ``:12`` for the line of ``text`` that sets ``key``, or nothing where no line does."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.\- ]+?)\s*\]", line):
            section = header[1] + "."
            if section == key + ".":
                return f":{number}"
        elif (entry := re.match(r"\s*([\w.\-]+)\s*=", line)) and section + entry[1] == key:
            return f":{number}"
    return ""


def _shown(value: Any) -> str:
    """Return a value for a message, on one line and not too long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def flat(config: RunConfig) -> dict[str, Any]:
    """Return ``{"search.decay": 0.96, ...}`` without the keys that hold nothing."""

    def walk(tables: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in tables.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            elif value is not None:
                yield prefix + key, value

    return dict(walk(config.model_dump(by_alias=True, mode="json"), ""))


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return ``key: old -> new`` for every setting that would change a result, in order of the keys."""
    before, after = flat(old), flat(new)
    keys = [key for key in dict.fromkeys([*before, *after]) if not key.startswith(FREE_KEYS)]
    return [
        f"{key}: {_shown(before.get(key))} -> {_shown(after.get(key))}"
        for key in keys
        if before.get(key) != after.get(key)
    ]


def fingerprint(config: RunConfig) -> str:
    """Return the SHA-256 of the settings that change results."""
    kept = {key: value for key, value in flat(config).items() if not key.startswith(FREE_KEYS)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def to_toml(config: RunConfig) -> str:
    """Write a configuration with all its defaults; `load_config` reads the same back."""
    return _tables(config.model_dump(by_alias=True, mode="json"))


def _tables(tables: Mapping[str, Any], prefix: str = "") -> str:
    """Write plain values first, then one ``[header]`` for each inner table."""
    lines = [
        f"{key} = {toml_value(value)}"
        for key, value in tables.items()
        if value is not None and not isinstance(value, dict)
    ]
    for key, value in tables.items():
        if isinstance(value, dict):
            body = _tables(value, f"{prefix}{key}.")
            header = [] if body.startswith("\n[") or not body else ["", f"[{prefix}{key}]"]
            lines += [*header, body.rstrip("\n")]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """Write one value; JSON's texts, whole numbers and booleans are TOML's too."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value)
