"""Answers that nobody should believe."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict

from netadapt.platforms.devices.answers import BadAnswer, NotNegative, Positive, read_answer


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    latency_ms: list[Positive]
    memory_mb: NotNegative = 0.0


def test_a_good_one():
    assert read_answer(b' {"latency_ms": [1, 2.5]}\n', Strict).latency_ms == [1.0, 2.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not one JSON object"),
        (b"Welcome to pi!\n{}", "Welcome to pi"),
        (b'{"latency_ms": [1]} {"latency_ms": [1]}', "Extra data"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not one JSON object"),
        (b"[" * 100_000, "not one JSON object"),
        (b'{"latency_ms": [1], "latency_ms": [2]}', "a key stands twice"),
        (b'{"latency_ms": [NaN]}', "NaN is no number"),
        (b'{"latency_ms": [1e999]}', "1e999 is no number"),
        (b'{"latency_ms": [1' + 400 * b"0" + b"]}", "is no number"),
        (b'{"latency_ms": [0]}', r"latency_ms\.0 is wrong"),
        (b'{"latency_ms": ["1"]}', r"latency_ms\.0 is wrong"),
        (b'{"latency_ms": [true]}', r"latency_ms\.0 is wrong"),
        (b'{"latency_ms": [1], "memory_mb": -1}', "memory_mb is wrong"),
        (b'{"latency_ms": [1], "run": "rm -rf"}', "run is wrong"),
        (b"{}", "latency_ms is wrong"),
    ],
)
def test_a_bad_one(content, message):
    with pytest.raises(BadAnswer, match=message):
        read_answer(content, Strict)


def test_what_is_shown_is_short_and_printable():
    with pytest.raises(BadAnswer) as caught:
        read_answer(b"\x1b[31m" * 100_000, Strict)
    assert len(str(caught.value)) < 1200
    assert "\x1b" not in str(caught.value)


def test_what_no_model_checks_is_finite_too():
    class Open(BaseModel):
        model_config = ConfigDict(strict=True, extra="allow")

    assert read_answer(b'{"watts": 1e3}', Open).model_extra == {"watts": 1000.0}
    with pytest.raises(BadAnswer, match="-1e999 is no number"):
        read_answer(b'{"watts": [-1e999]}', Open)
