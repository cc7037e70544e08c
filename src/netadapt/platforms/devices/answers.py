"""Reads what a device or a user's program answered: one JSON object, strictly; nothing in it is trusted."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, Field, ValidationError

MOST_BYTES = 1 << 20  #: of an answer

Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_Model = TypeVar("_Model", bound=BaseModel)


class BadAnswer(ValueError):
    """An answer cannot be used; the message is the end of a sentence that says who gave it."""


def read_answer(content: bytes, model: type[_Model]) -> _Model:
    """Return the JSON object that ``content`` is, checked by ``model``.

    Args:
        content: all that was said; blank space around the object is allowed.
        model: a strict one.

    Raises:
        BadAnswer: it is not one JSON object, holds a key twice or a number that is not finite, or ``model`` refuses it.
    """
    try:
        found = json.loads(
            content.decode(), parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not one JSON object ({error}): {_beginning(content)}") from None
    if not isinstance(found, dict):
        raise BadAnswer(f"not a JSON object: {_beginning(content)}")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadAnswer(f"a JSON object in which {where} is wrong ({first['msg']}): {_beginning(content)}") from None


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _whole(text: str) -> int:
    _finite(text)  # one with hundreds of digits is no float either
    return int(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _beginning(content: bytes) -> str:
    """Return the first bytes in printable form."""
    text = ascii(content[:200].decode(errors="replace"))
    return text + ("..." if len(content) > 200 else "")
