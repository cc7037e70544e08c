from __future__ import annotations

import pytest

from netadapt.resources import patience
from netadapt.resources.patience import patiently


@pytest.mark.parametrize(("useless", "found", "waited"), [(0, 0, []), (1, 1, [5.0]), (2, 2, [5.0, 30.0])])
def test_it_waits_until_a_result_can_be_used(monkeypatch, caplog, useless, found, waited):
    pauses = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    assert patiently(lambda attempt: attempt, lambda result: result >= useless, "phone") == found
    assert pauses == waited
    assert caplog.text.count("phone: a measurement is unusable") == len(waited)


def test_in_the_end_the_last_result_is_the_callers_to_refuse(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES_S", (0.0, 0.0))
    assert patiently(lambda attempt: attempt, lambda _: False, "phone") == 2
