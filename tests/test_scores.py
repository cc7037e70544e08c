"""Tests of scores."""

from __future__ import annotations

import pytest

from netadapt.scores import Score, accuracy_error


def test_the_error_of_an_accuracy_is_that_of_a_share() -> None:
    assert accuracy_error(0.5, 100) == pytest.approx(0.05)
    assert Score(0.5, 0.1, 100).error == pytest.approx(0.05)


def test_nothing_is_known_without_images_or_of_a_metric_that_is_no_share() -> None:
    assert accuracy_error(0.5, None) is None
    assert accuracy_error(None, 100) is None
    assert accuracy_error(25.0, 100) is None
    assert Score(-3.2, 0.1, 100).error is None
    assert Score(0.9, 0.1).error is None


def test_what_a_task_says_of_its_metric_comes_first() -> None:
    assert Score(0.9, 0.1, 100, standard_error=0.2).error == 0.2
    assert Score(-3.2, 0.1, standard_error=0.0).error == 0.0
