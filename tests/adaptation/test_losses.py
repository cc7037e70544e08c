"""Losses of untuned networks: what one-shot writes down and reads again; whole runs on the simulated platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_run import IMAGE, QUICK, Colours, run, small_net, told
from torch import nn

from netadapt import Adaptation
from netadapt.errors import Interrupted, NonFinite
from netadapt.network.refit import LeastSquaresRefit
from netadapt.runs.state import read_state

ONE_SHOT: dict[str, Any] = {"method": "one-shot"}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))


def begun(folder: Path, listener: Callable[[str, Mapping[str, Any]], None], **more: Any) -> Adaptation:
    """Return a one-shot run in a folder, new or to be gone on with."""
    options = {**QUICK, **ONE_SHOT, **more}
    platform = options.pop("platform")
    return Adaptation(small_net(), IMAGE, Colours(), "50%", platform, folder, listener=listener, **options)


def test_loss_curves_are_kept_and_not_measured_again(tmp_path: Path) -> None:
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
    run(tmp_path / "whole", **ONE_SHOT)
    assert told(tmp_path / "run") == told(tmp_path / "whole")


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
    assert halves.exchanges == whole.exchanges
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
