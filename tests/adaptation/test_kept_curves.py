"""Loss curves kept for other runs: found again for the same network, images and filters, and for nothing else."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import IMAGE, small_net
from torch import Tensor, nn

from netadapt.adaptation.kept_curves import KeptCurve, KeptCurves
from netadapt.baselines.one_shot import LossCurve
from netadapt.network import trace
from netadapt.scores import Score

CURVE = KeptCurve(LossCurve((16, 32, 64), (0.7, 1 / 3, 0.0)), 640, 1.5)
START = Score(0.9, 0.25, 100)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


INPUTS = ((torch.ones(2, 3),),)


def kept(model: nn.Module | None = None, inputs: Any = INPUTS, images: int = 2, start: Score = START) -> KeptCurves:
    return KeptCurves(trace(model or small_net(), IMAGE), inputs, images, start, None)


def test_a_curve_is_found_again_as_it_was() -> None:
    kept().add("first", [32, 16], CURVE)
    assert kept().find("first", [32, 16]) == CURVE
    assert kept().find("first", [16]) is None
    assert kept().find("second", [32, 16]) is None


def _other_weights(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.get_parameter("first.weight")[0, 0, 0, 0] += 1e-6
    return model


@pytest.mark.parametrize(
    "other",
    [
        lambda: kept(_other_weights(small_net())),
        lambda: kept(inputs=[(torch.zeros(2, 3),)]),
        lambda: kept(images=1),
        lambda: kept(start=Score(0.9, 0.2500001, 100)),
    ],
    ids=["weights", "images", "fewer", "selection"],
)
def test_it_is_not_found_for_anything_else(other: Callable[[], KeptCurves]) -> None:
    kept().add("first", [32, 16], CURVE)
    assert other().find("first", [32, 16]) is None


@pytest.mark.parametrize("inputs", [None, [object()], [(UserDict(x=torch.ones(2, 3)),)]])
def test_nothing_is_kept_where_the_images_are_not_known(inputs: Any, cache: Path) -> None:
    kept(inputs=inputs).add("first", [32, 16], CURVE)
    assert kept(inputs=inputs).find("first", [32, 16]) is None
    assert not cache.exists()


class Stateful(nn.Module):
    """Keeps what is no tensor in its state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small_net()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits

    def get_extra_state(self) -> object:
        return object()

    def set_extra_state(self, state: object) -> None:
        pass


def test_nothing_is_kept_of_a_network_whose_state_cannot_be_compared(cache: Path) -> None:
    kept(Stateful().eval()).add("body.first", [32, 16], CURVE)
    assert not cache.exists()


def test_a_damaged_line_is_measured_again(cache: Path) -> None:
    kept().add("first", [32, 16], CURVE)
    kept().add("second", [32], CURVE)
    (path,) = cache.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"640", b"641") + lines[2])
    again = kept()
    assert again.find("first", [32, 16]) is None
    assert again.find("second", [32]) == CURVE
