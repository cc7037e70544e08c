"""Against uniform width, and estimated against measured."""

from __future__ import annotations

import pytest

from netadapt.report.compare import agreement, uniform_verdict
from netadapt.runs.state import State


def finished(ours, theirs, **uniform):
    return State(
        start={"budget": {}, "initial": {}, "images": {"test": 2500}},
        final={"variant": "001", "accuracy_test": ours, "measurement": {"median_ms": 1.0}},
        uniform={"accuracy_test": theirs, "measured": {"latency": 1.1}} | uniform,
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "word"), [(0.70, 0.60, "beats"), (0.60, 0.70, "loses to"), (0.61, 0.60, "ties with")]
)
def test_the_word_follows_the_interval(ours, theirs, word):
    verdict = uniform_verdict(finished(ours, theirs))
    assert verdict.word == word
    assert verdict.half_width == pytest.approx(0.0265, abs=1e-3)
    assert (verdict.final_ms, verdict.uniform_ms) == (1.0, 1.1)


def test_a_paired_error_is_preferred():
    assert str(uniform_verdict(finished(0.61, 0.60, difference_se=0.004))) == "beats uniform width by 1.0 ± 0.8 points"
    assert str(uniform_verdict(finished(0.60, 0.61))) == "ties with uniform width (-1.0 ± 2.7 points)"


def test_no_verdict_without_both():
    assert uniform_verdict(State()) is None
    assert uniform_verdict(finished(None, 0.6)) is None
    assert uniform_verdict(finished(0.6, None)) is None


def test_agreement_of_steps():
    steps = tuple(
        {"iteration": i, "variant": str(i), "estimated": {"latency": e}, "measured": {"latency": m}, "widths": {}}
        for i, (e, m) in enumerate([(1.1, 1.0), (0.95, 1.0), (None, 1.0)])
    )
    found = agreement(State(steps=steps))
    assert found.names == ("0", "1")
    assert found.mean_error == pytest.approx(0.075)
    assert found.worst_error == pytest.approx(0.1)
    assert found.bias == pytest.approx(0.025)
    assert agreement(State(steps=steps), "energy") is None


def test_what_a_trained_network_took_stands_beside_the_uniform_one():
    state = finished(0.7, 0.6)
    corrected = State(start=state.start, final=state.final | {"measured": {"latency": 0.98}}, uniform=state.uniform)
    assert uniform_verdict(corrected).final_ms == 0.98


def test_sigma_is_that_of_the_winning_proposal():
    step = {
        "iteration": 1,
        "variant": "001",
        "estimated": {"latency": 1.0},
        "measured": {"latency": 1.0},
        "widths": {"a": 8},
    }
    won = {"key": "x", "iteration": 1, "widths": {"a": 8}, "sigma": {"latency": 0.02}}
    lost = {"key": "y", "iteration": 1, "widths": {"a": 16}, "sigma": {"latency": 0.5}}
    assert agreement(State(steps=(step,), proposals={"y": lost, "x": won})).sigma == (0.02,)


def test_without_any_standard_error_the_verdict_is_left_open():
    start = {"budget": {}, "initial": {}}
    final = {"variant": "001", "accuracy_test": 0.7, "measurement": {"median_ms": 1.0}}
    state = State(start=start, final=final, uniform={"accuracy_test": 0.68})
    verdict = uniform_verdict(state)
    assert verdict.word == "open" and verdict.half_width is None
    assert str(verdict).startswith("is 2.0 points above uniform width (whether that is chance is not known")
    known = State(start=start, final=final, uniform={"accuracy_test": 0.68, "accuracy_se": 0.0})
    assert uniform_verdict(known).word == "beats"
