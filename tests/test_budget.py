from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.budget import UNITS, Budget, Limit, format_quantity, parse_limit
from netadapt.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "resource", "value"),
    [
        ("8 ms", "latency", 8.0),
        ("8ms", "latency", 8.0),
        ("250 us", "latency", 0.25),
        ("0.5 s", "latency", 500.0),
        ("40 MMAC", "macs", 40e6),
        ("1.2 GMACs", "macs", 1.2e9),
        ("2 M", "parameters", 2e6),
        ("2 M parameters", "parameters", 2e6),
        ("1234 parameters", "parameters", 1234.0),
        ("40 MB", "memory", 40.0),
        ("3 mJ", "energy", 3.0),
        ("1e2 uJ", "energy", 0.1),
    ],
)
def test_a_quantity_is_read_in_its_canonical_unit(text: str, resource: str, value: float) -> None:
    assert parse_limit(text) == Limit(resource, pytest.approx(value))


def test_a_percentage_is_of_the_latency_unless_said_otherwise() -> None:
    assert parse_limit("50%") == Limit("latency", 0.5, relative=True)
    assert parse_limit("50 %", "macs") == Limit("macs", 0.5, relative=True)


def test_size_and_memory_share_their_unit_and_macs_may_be_counted_in_millions() -> None:
    assert parse_limit("4 MB", "size") == Limit("size", 4.0)
    assert parse_limit("40 M", "macs") == Limit("macs", 40e6)


@pytest.mark.parametrize(
    ("text", "resource", "message"),
    [
        ("8", None, '"8" has no unit. 8 what?'),
        ("eight ms", None, 'cannot read "eight ms"'),
        ("8 parsec", None, 'unknown unit "parsec"'),
        ("0 ms", None, "not positive"),
        ("-3 ms", None, "cannot read"),
        ("8 ms", "macs", "has a unit of latency"),
        ("8 ms", "latencyy", 'did you mean "latency"?'),
    ],
)
def test_an_unreadable_limit_says_what_is_allowed(text: str, resource: str | None, message: str) -> None:
    with pytest.raises(BudgetError, match="Budget:") as caught:
        parse_limit(text, resource)
    assert message in str(caught.value)


def test_several_limits_are_resolved_against_the_start() -> None:
    budget = Budget.parse({"latency": "50%", "parameters": "2 M"})
    assert budget.resolve({"latency": 8.0, "parameters": 4e6, "macs": 1e8}) == {"latency": 4.0, "parameters": 2e6}


def test_a_budget_above_the_start_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"met by the original network already \(latency 6 ms"):
        Budget.parse("8 ms").resolve({"latency": 6.0})


def test_a_resource_that_the_platform_does_not_measure_is_refused() -> None:
    with pytest.raises(BudgetError, match="energy is not measured on this platform; it gives latency"):
        Budget.parse("1 mJ").resolve({"latency": 6.0})


def test_an_empty_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="no limit given"):
        Budget.parse({})


@given(st.sampled_from(sorted(UNITS)), st.floats(1e-3, 1e12))
def test_a_formatted_quantity_reads_back(resource: str, value: float) -> None:
    text = format_quantity(value, resource)
    assert parse_limit(text, resource).value == pytest.approx(value, rel=0.01)
