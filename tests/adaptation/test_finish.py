from __future__ import annotations

import math

import pytest

from netadapt.adaptation.finish import standard_error, with_selection
from netadapt.training.task import Score


def test_the_standard_error_is_that_of_a_share() -> None:
    assert standard_error(Score(0.9, 0.1, 100)) == pytest.approx(math.sqrt(0.09 / 100))
    assert standard_error(Score(0.9, 0.1)) is None
    assert standard_error(Score(-3.2, 0.1, 100)) is None  # a metric that is no share


def test_the_selection_split_is_added_where_the_task_can() -> None:
    class Extendable:
        def with_selection(self) -> str:
            return "all"

    plain = object()
    assert with_selection(Extendable()) == "all"  # type: ignore[arg-type,comparison-overlap]
    assert with_selection(plain) is plain  # type: ignore[arg-type,comparison-overlap]
