from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netadapt.adaptation.preparation import build_task, python_config, structure_of, warn_if_seen
from netadapt.budget import Budget
from netadapt.errors import BudgetError, ConfigError, DataError
from netadapt.models import resolve_model
from netadapt.runs.config import make_config
from netadapt.scores import Score


def config_of(budget: Any = "50%", **given: Any) -> Any:
    return python_config("Net", "MyTask", budget, "simulated", Path("runs/x"), given)


def test_arguments_find_their_sections() -> None:
    config = config_of(mode="faithful", sessions=7, uniform=False, seed=3, keep=["stem"], short_term={"images": 10})
    assert config.search.mode == "faithful"
    assert config.measure.sessions == 7
    assert not config.report.uniform
    assert config.run.seed == 3
    assert config.model.keep == ("stem",)
    assert config.training.short_term.images == 10
    assert (config.model.source, config.task.source) == ("python:Net", "python:MyTask")


@pytest.mark.parametrize(
    ("budget", "limits"),
    [
        ("8 ms", {"latency": "8.0 ms"}),
        ({"latency": "50%", "macs": "40 MMAC"}, {"latency": "50%", "macs": "40 MMAC"}),
        (Budget.parse({"parameters": "2 M"}), {"parameters": "2000000.0 parameters"}),
    ],
)
def test_budgets_are_written_down(budget: Any, limits: dict[str, str]) -> None:
    assert config_of(budget).budget.limits() == limits


def test_a_model_may_be_the_budget() -> None:
    assert config_of("mobilenet_v1?width=0.5").budget.latency_of == "mobilenet_v1?width=0.5"


@pytest.mark.parametrize("budget", ["8", "fast", "50"])
def test_a_budget_without_unit_is_refused(budget: str) -> None:
    with pytest.raises(BudgetError, match="Budget:"):
        config_of(budget)


def test_an_unknown_argument_names_the_closest() -> None:
    with pytest.raises(ConfigError, match='did you mean "decay"'):
        config_of(decai=0.9)


def test_a_new_classifier_and_unfolded_norms_change_the_structure_only() -> None:
    model, example = resolve_model("mobilenet_v1?width=0.25&resolution=32&classes=7&batch_norm=0")
    data = {"model": {"source": "x", "classes": 10, "unfold_batch_norm": True}, "task": {"source": "digits"}}
    config = make_config({**data, "budget": {"latency": "50%"}})
    start = structure_of(config, model, example, None)
    assert start(example).shape == (1, 10)
    assert any(isinstance(m, nn.BatchNorm2d) for m in start.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert model(example).shape == (1, 7)


def test_a_task_gets_the_resolution_of_the_network_and_must_fit_it() -> None:
    config = make_config({"model": {"source": "x"}, "task": {"source": "digits"}, "budget": {"latency": "50%"}})
    task = build_task(config, torch.zeros(1, 3, 32, 32))
    assert next(task.batches(0)).images.shape[-1] == 32
    model, example = resolve_model("mobilenet_v1?width=0.25&resolution=32&classes=7")
    with pytest.raises(DataError, match=r"the task has 10 classes: set classes = 10 under \[model\]"):
        structure_of(config, model, example, task)


@pytest.mark.parametrize(
    ("selection", "test", "warned"),
    [
        (Score(0.999, 0.01, 2000), Score(0.916, 0.4, 5000), True),
        (Score(0.93, 0.2, 2000), Score(0.916, 0.4, 5000), False),  # no worse than usual
        (Score(0.98, 0.2, 50), Score(0.92, 0.4, 50), False),  # may be chance
        (Score(0.80, 0.2, name="mIoU", standard_error=0.01), Score(0.70, 0.4, standard_error=0.01), True),
        (Score(0.80, 0.2, name="mIoU"), Score(0.70, 0.4), False),  # nobody knows how sure it is
        (Score(0.85, 0.2, 2000), Score(0.92, 0.4, 5000), False),
    ],
)
def test_a_selection_split_that_the_network_has_been_trained_on_is_told(
    selection: Score, test: Score, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    warn_if_seen(selection, test)
    assert [selection.name in message for message in caplog.messages] == [True] * warned
