"""Losses of untuned networks: what one-shot writes down and reads again; whole runs on the simulated platform."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_run import IMAGE, QUICK, Colours, run, small_net, told
from torch import Tensor, nn

from netadapt import Adaptation, adapt
from netadapt.errors import Interrupted, NonFinite
from netadapt.network.refit import LeastSquaresRefit
from netadapt.runs.state import read_state
from netadapt.scores import Score

ONE_SHOT: dict[str, Any] = {"method": "one-shot"}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))


def begun(folder: Path, listener: Callable[[str, Mapping[str, Any]], None], **more: Any) -> Adaptation:
    """Return a one-shot run in a folder, new or to be gone on with."""
    options = {"budget": "50%", **QUICK, **ONE_SHOT, **more}
    budget, platform = options.pop("budget"), options.pop("platform")
    return Adaptation(small_net(), IMAGE, Colours(), budget, platform, folder, listener=listener, **options)


def test_loss_curves_are_kept_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "loss_curve":
            measured.append(data["group"])
        if type_ == "step" and data["iteration"] == 1:
            adaptation.stop()

    adaptation = begun(tmp_path / "run", listener)
    with pytest.raises(Interrupted):
        adaptation.finish()
    adaptation.close()
    assert measured == ["first", "second"]
    curves = read_state(tmp_path / "run").loss_curves
    assert curves is not None
    assert set(curves["curves"]) == {"first", "second"}
    assert curves["forward_images"] > 0
    adaptation = begun(tmp_path / "run", listener)
    adaptation.finish()
    adaptation.close()
    assert measured == ["first", "second"]
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "another cache"))
    run(tmp_path / "whole", **ONE_SHOT)
    assert told(tmp_path / "run") == told(tmp_path / "whole")


def test_curves_of_a_run_serve_another_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "loss_curve":
            measured.append(data["group"])

    run(tmp_path / "first", **ONE_SHOT, uniform=False)
    adaptation = begun(tmp_path / "second", listener, budget="70%", uniform=False)
    adaptation.finish()
    adaptation.close()
    assert measured == []
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "another cache"))
    run(tmp_path / "alone", budget="70%", **ONE_SHOT, uniform=False)
    assert told(tmp_path / "second") == told(tmp_path / "alone")
    states = [read_state(tmp_path / name) for name in ("first", "second", "alone")]
    curves = [state.loss_curves for state in states if state.loss_curves is not None]
    assert len({str(each["curves"]) for each in curves}) == 1
    assert len({each["forward_images"] for each in curves}) == 1  # what they cost, whoever paid for it
    (kept,) = (tmp_path / "cache").glob("loss-curves-*.jsonl")
    records = [json.loads(line) for line in kept.read_text().splitlines()[1:]]
    assert curves[1]["seconds"] >= sum(record["seconds"] for record in records) > 0


def test_curves_are_measured_on_as_many_images_as_asked_for(tmp_path: Path) -> None:
    class Parts(Colours):
        def evaluate_part(self, model: nn.Module, images: int) -> Score:
            asked.append(images)
            return self.evaluate(model, "selection")

    asked: list[int] = []
    adapt(small_net(), IMAGE, Parts(), run=tmp_path / "run", curve_images=33, **{**QUICK, **ONE_SHOT})
    curves = read_state(tmp_path / "run").loss_curves
    assert curves is not None
    # the start network, and every point but the start's own
    assert asked == [33] * (1 + sum(len(curve["widths"]) - 1 for curve in curves["curves"].values()))


def test_curves_on_fewer_images_are_other_curves_even_where_the_start_scores_alike(tmp_path: Path) -> None:
    class Alike(Colours):
        def evaluate_part(self, model: nn.Module, images: int) -> Score:
            return Score(1.0, 0.0)

    for images in (20, 30):
        options = {**QUICK, **ONE_SHOT, "uniform": False, "curve_images": images}
        adapt(small_net(), IMAGE, Alike(), run=tmp_path / str(images), **options)
    assert len(list((tmp_path / "cache").glob("loss-curves-*.jsonl"))) == 2


def test_fewer_images_to_refit_on_are_other_curves(tmp_path: Path) -> None:
    # a task of batches of 16 gives both the same 64 images
    for images in (64, 50):
        run(tmp_path / str(images), **ONE_SHOT, uniform=False, calibration_images=images)
    assert len(list((tmp_path / "cache").glob("loss-curves-*.jsonl"))) == 2


def test_by_norm_the_inputs_of_the_network_need_not_be_readable(tmp_path: Path) -> None:
    class Careful(Colours):
        def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            return super().forward(model, (batch[0].to(next(model.parameters()).device), batch[1]))

    family = adapt(small_net(), IMAGE, Careful(), run=tmp_path / "run", **{**QUICK, **ONE_SHOT, "filters": "norm"})
    assert family.best.resources["latency"] > 0


def test_a_run_that_is_stopped_between_two_curves_keeps_the_first(tmp_path: Path) -> None:
    measured: list[str] = []

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "loss_curve":
            measured.append(data["group"])
            if len(measured) == 1:
                adaptation.stop()

    adaptation = begun(tmp_path / "run", listener, uniform=False)
    with pytest.raises(Interrupted):
        adaptation.finish()
    adaptation.close()
    adaptation = begun(tmp_path / "run", listener, uniform=False)
    adaptation.finish()
    adaptation.close()
    assert measured == ["first", "second"]


def test_networks_of_the_same_cost_are_scored_once_and_the_best_is_taken(tmp_path: Path) -> None:
    scored: list[tuple[int, ...]] = []

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "exchange":
            scored.append(tuple(data["widths"]))
            if len(scored) == 7:
                adaptation.stop()

    adaptation = begun(tmp_path / "run", listener, uniform=False, exchanges=12)
    with pytest.raises(Interrupted):
        adaptation.finish()
    adaptation.close()
    assert len(scored) == 7
    adaptation = begun(tmp_path / "run", listener, uniform=False, exchanges=12)
    adaptation.finish()
    adaptation.close()
    assert len(set(scored)) == len(scored)
    state = read_state(tmp_path / "run")
    assert [tuple(e["widths"]) for e in state.exchanges] == scored
    assert all(e["forward_images"] > 0 for e in state.exchanges)
    (step,) = state.steps
    losses = {tuple(e["widths"]): e["loss"] for e in state.exchanges}
    assert losses[tuple(step["widths"].values())] <= losses[scored[0]]  # no worse than the loss curves' choice
    assert step["loss"] == pytest.approx(losses[tuple(step["widths"].values())])


@pytest.mark.parametrize("part", [0.3, 0.6, 1.0])
def test_an_interrupted_exchange_ends_with_the_same_network(part: float, tmp_path: Path) -> None:
    run(tmp_path / "whole", **ONE_SHOT, uniform=False, exchanges=8)
    whole = read_state(tmp_path / "whole")
    stop_after = round(part * (len(whole.exchanges) + 1))

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ in ("exchange", "iteration"):
            told_of.append(type_)
            if len(told_of) == stop_after:
                adaptation.stop()

    told_of: list[str] = []
    adaptation = begun(tmp_path / "run", listener, uniform=False, exchanges=8)
    with pytest.raises(Interrupted):
        adaptation.finish()
    adaptation.close()
    run(tmp_path / "run", **ONE_SHOT, uniform=False, exchanges=8)
    halves = read_state(tmp_path / "run")
    assert [s["widths"] for s in halves.steps] == [s["widths"] for s in whole.steps]
    found = [[(e["widths"], e["loss"]) for e in state.exchanges] for state in (halves, whole)]
    assert found[0] == found[1]
    assert halves.forward_images >= sum(e["forward_images"] for e in whole.exchanges)


def test_a_network_whose_loss_is_not_finite_is_written_down_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = LeastSquaresRefit.apply

    def failing(self: LeastSquaresRefit, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        if len(kept) > 1 and len(kept["first"]) < 12:
            raise NonFinite("the weights are not finite")
        return apply(self, kept)

    monkeypatch.setattr(LeastSquaresRefit, "apply", failing)
    run(tmp_path / "run", **ONE_SHOT, uniform=False, exchanges=12)
    exchanges = read_state(tmp_path / "run").exchanges
    assert any(e["loss"] is None for e in exchanges)
    assert len({tuple(e["widths"]) for e in exchanges}) == len(exchanges)
    assert read_state(tmp_path / "run").steps[-1]["widths"]["first"] >= 12
