from __future__ import annotations

import pytest

from netadapt import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, 2),
        (errors.ModelError, 2),
        (errors.DataError, 2),
        (errors.PlatformError, 2),
        (errors.BudgetError, 2),
        (errors.BudgetUnreachable, 3),
        (errors.MeasurementUnusable, 4),
        (errors.RunDamaged, 5),
        (errors.Interrupted, 130),
    ],
)
def test_exit_codes_are_those_of_the_contract(error: type[errors.NetAdaptError], code: int) -> None:
    assert issubclass(error, errors.NetAdaptError)
    assert error.exit_code == code


def test_the_closest_name_is_suggested() -> None:
    assert errors.did_you_mean("latancy", ["latency", "macs"]) == ' (did you mean "latency"?)'
    assert errors.did_you_mean("zebra", ["latency", "macs"]) == ""


def test_the_tree_in_the_docstring_names_every_error() -> None:
    names = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.NetAdaptError)}
    assert all(name in (errors.__doc__ or "") for name in names)
