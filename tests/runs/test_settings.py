"""The fields of the configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from netadapt.runs.config import keys
from netadapt.runs.settings import LongTerm, RunConfig, SearchSection, ShortTerm, TaskSection


def test_every_field_is_described():
    assert [key for key, field in keys() if not (field.description or hasattr(field.annotation, "__doc__"))] == []


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        SearchSection().decay = 0.5


def test_each_recipe_has_its_own_length():
    assert (ShortTerm().images, ShortTerm().epochs) == (2000, None)
    assert (LongTerm().images, LongTerm().epochs) == (None, 10.0)
    assert ShortTerm(epochs=1.0).images is None


@pytest.mark.parametrize("chosen", [{"search": {"method": "from-scratch"}}, {}])
def test_a_network_from_scratch_must_be_trained(chosen):
    training = {"long_term": {"epochs": 20.0, "from_scratch": "search" not in chosen}}
    whole = {"schema": 1, "model": {"source": "resnet20"}, "budget": {"latency": "50%"}, "task": {"source": "digits"}}
    config = RunConfig.model_validate(whole | chosen | {"training": training})
    assert config.from_scratch
    training["long_term"] |= {"epochs": None, "images": 0}
    with pytest.raises(ValidationError, match="images = 0, but the network is to be trained from scratch"):
        RunConfig.model_validate(whole | chosen | {"training": training})


@pytest.mark.parametrize("text", ["3 noise", "2.5 noise", "1%", "0.1 ms"])
def test_smallest_steps(text):
    assert SearchSection(min_step=text).min_step == text


@pytest.mark.parametrize("text", ["noise", "-1 noise", "3", "0%"])
def test_unreadable_steps_are_refused(text):
    with pytest.raises(ValidationError, match="3 noise"):
        SearchSection(min_step=text)


@pytest.mark.parametrize("selection", [10, 1, 0.1])
def test_selection_is_images_per_class_or_a_fraction(selection):
    assert TaskSection(source="digits", selection=selection).selection == selection


@pytest.mark.parametrize("selection", [0, 1.5, -0.1, "10"])
def test_other_selections_are_refused(selection):
    with pytest.raises(ValidationError):
        TaskSection(source="digits", selection=selection)
