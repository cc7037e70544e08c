"""Writes the commented configuration of ``netadapt init`` from the fields themselves, so that the two never differ."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from netadapt.runs.config import section_of, toml_value
from netadapt.runs.settings import Recipe, RunConfig, Section

_HEAD = """\
# The configuration of a netadapt run.  Start it with:  netadapt run FILE  (the same command again resumes)
# Keys behind a # are off, or show an alternative.  Any key can be set for one run:  --set search.decay=0.9
"""


def template() -> str:
    """Return a commented configuration with every key; `load_config` reads it."""
    return _HEAD + _section(RunConfig, "", "")


def _section(section: type[Section], prefix: str, off: str) -> str:
    """Write the keys of one section, then its tables; ``off`` is put before the lines of an optional table."""
    lines: list[str] = []
    tables: list[str] = []
    for name, field in section.model_fields.items():
        key = field.alias or name
        if inner := section_of(field):
            mark = "# " if field.default is None else off
            header = f"{mark}[{prefix}{key}]"
            tables.append(
                f"\n{header:<34}  # {field.description or _title(inner)}\n{_section(inner, f'{prefix}{key}.', mark)}"
            )
        else:
            value, on = _value(section, key, field, f"{prefix}{key}")
            mark = off or ("" if on else "# ")
            entry = f"{mark}{key} = {toml_value(value)}"
            lines.append(f"{entry:<34}  # {field.description}\n")
    return "".join(lines + tables)


def _value(section: type[Section], key: str, field: FieldInfo, full: str) -> tuple[Any, bool]:
    """Return the value to show for a key and whether it is in force."""
    if issubclass(section, Recipe) and key in section.length:
        return section.length[key], True
    if field.is_required() or full == "budget.latency":
        return (field.examples or [""])[0], True
    if field.default is None:
        return (field.examples or [""])[0], False
    return field.default, True


def _title(section: type[Section]) -> str:
    """Return the first sentence of a section's docstring as a comment."""
    return (section.__doc__ or "").splitlines()[0].rstrip(".")
