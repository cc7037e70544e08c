from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_run import IMAGE, QUICK, Colours, run, small_net
from torch import nn

from netadapt.adaptation.adaptation import Adaptation
from netadapt.adaptation.finish import final, with_selection
from netadapt.errors import ConfigError, Interrupted
from netadapt.platforms import Measurement
from netadapt.runs.journal import read_records
from netadapt.runs.status import status
from netadapt.scores import Score


def test_the_selection_split_is_added_where_the_task_can() -> None:
    class Extendable:
        def with_selection(self) -> str:
            return "all"

    plain = object()
    assert with_selection(Extendable()) == "all"  # type: ignore[arg-type,comparison-overlap]
    assert with_selection(plain) is plain  # type: ignore[arg-type,comparison-overlap]


@pytest.mark.parametrize(
    ("memory_half_width_mb", "met"),
    [(0.0, False), (0.5, False), (1.5, True), (2.4, True), (2.6, False), (None, False)],
)
def test_a_budget_is_met_within_the_interval_unless_that_says_nothing(
    memory_half_width_mb: float | None, met: bool
) -> None:
    measurement = Measurement(
        "p", 1.0, 0.0, 1.0, 5, "stable", 0.01, (1.0,) * 5,
        ratio=0.5, memory_mb=10.0, memory_half_width_mb=memory_half_width_mb,
    )  # fmt: skip
    metering = SimpleNamespace(
        network=SimpleNamespace(widths_of=lambda model: {}),
        meter=SimpleNamespace(initial={"latency": 4.0}),
        measure=lambda model, widths: (measurement, {"latency": 1.0, "memory": 10.0}),
    )
    told: dict[str, Any] = {}
    store = SimpleNamespace(record=lambda type_, data: told.update(data))
    budget = {"latency": 1.0, "memory": 9.0}
    final(store, metering, nn.Identity(), "001", Score(0.9, 0.1, 100), budget)  # type: ignore[arg-type]
    assert told["met"] == met
    assert told["ratio"] == 0.25 and told["ratio_half_width"] == pytest.approx(0.0025)  # on the run's scale, as met is


def test_from_scratch_keeps_the_widths_alone(tmp_path: Path) -> None:
    """What the start network knew is gone, for its uniform neighbour too; what was found before is the same."""
    still = {"images": 16, "lr": 1e-9}  # nothing is learned, so that the weights are as they were drawn
    options: dict[str, Any] = {"method": "one-shot", "budget": "50%", "filters": "norm"}
    inherited = run(tmp_path / "inherited", **options, long_term=still)
    fresh = run(tmp_path / "fresh", **options, long_term={**still, "from_scratch": True})
    again = run(tmp_path / "again", **options, long_term={**still, "from_scratch": True})
    assert fresh.best.widths == inherited.best.widths
    weights = [family.best.load(small_net()).first.weight for family in (inherited, fresh, again)]
    original = {tuple(row.flatten().tolist()) for row in small_net().first.weight.detach().round(decimals=5)}
    kept = [sum(tuple(row.flatten().tolist()) in original for row in w.detach().round(decimals=5)) for w in weights]
    assert kept[0] > 0 and kept[1] == 0
    assert torch.equal(weights[1], weights[2])
    uniform = [read_records(tmp_path / name / "journal.jsonl") for name in ("inherited", "fresh")]
    accuracies = [next(r.data["accuracy_test"] for r in records if r.type == "uniform") for records in uniform]
    assert accuracies[0] != accuracies[1]


def test_an_interrupted_training_from_scratch_ends_with_the_same_weights(tmp_path: Path) -> None:
    """The weights are drawn by seed and key, and epochs that were finished are taken from the checkpoint."""
    options = QUICK | {"method": "one-shot", "filters": "norm", "uniform": False}
    options["long_term"] = {"images": 128, "lr": 0.02, "from_scratch": True}
    whole = run(tmp_path / "whole", **options)

    def stopping(type_: str, data: Any) -> None:
        if type_ == "training" and data["key"] == "long-001" and data["images"] >= 64:
            adaptation.stop()

    adaptation = Adaptation(
        small_net(), IMAGE, Colours(), "50%", run=tmp_path / "cut", listener=stopping,
        **options,
    )  # fmt: skip
    with contextlib.closing(adaptation), pytest.raises(Interrupted):
        adaptation.finish()
    resumed = run(tmp_path / "cut", **options)
    for one, other in zip(
        whole.best.load(small_net()).parameters(), resumed.best.load(small_net()).parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("options", [{}, {"method": "from-scratch"}])
def test_from_scratch_is_refused_where_weights_are_frozen(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small_net()
    model.first.weight.requires_grad = False
    with pytest.raises(ConfigError, match=r'1 parameters are frozen \("first.weight"'):
        run(tmp_path / "run", model=model, **options, long_term={"images": 16, "from_scratch": not options})
    assert not (tmp_path / "run").exists()


WEIGHTS_METER = """
import json, sys
import numpy as np
from onnx import load, numpy_helper
arrays = [numpy_helper.to_array(w) for w in load(sys.argv[-1]).graph.initializer]
values = np.abs(np.concatenate([a.ravel() for a in arrays if a.dtype == np.float32]))
slow = 100 * np.count_nonzero((values < np.finfo(np.float32).tiny) & (values != 0))
print(json.dumps({"latency_ms": 0.1 + values.size / 1e5 + 1e-6 * float(values.mean()) + slow}))
"""


@pytest.mark.slow
def test_subnormal_weights_poison_no_measurement_and_the_trained_file_is_timed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device of this test takes 100 ms for every subnormal weight, and tells other weights apart."""
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "meter.py").write_text(WEIGHTS_METER)
    platform = f"command:{shlex.join([sys.executable, str(tmp_path / 'meter.py')])}"
    model = small_net()
    with torch.no_grad():
        model.first.weight[::2] = 1e-40
        model.second_norm.weight[::3] = 1e-25  # folded into a convolution, as runtimes are given it: subnormal
        model.second.weight[::3] *= 1e-15
    options = {"platform": platform, "networks": 8, "sessions": 2, "first_step": "40%", "uniform": False}
    family = run(tmp_path / "run", "60%", model, **options)
    assert status(tmp_path / "run")["met"] and family.initial.resources["latency"] < 2
    files = [*(tmp_path / "cache").rglob("*.jsonl")]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    ratios = [line["ratio"]["latency"] for line in lines if "ratio" in line]
    assert len(ratios) > 8 and max(ratios) < 1.1
    final = read_records(tmp_path / "run" / "journal.jsonl")[-1].data
    step = status(tmp_path / "run")["steps"][-1]
    assert final["measured"]["latency"] != step["measured_ms"]
    assert final["measured"]["latency"] == pytest.approx(step["measured_ms"], rel=1e-3)
