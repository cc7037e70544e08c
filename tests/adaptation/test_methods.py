"""What the methods of a run differ in: whole runs on the simulated platform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import IMAGE, run, small_net
from torch import Tensor, nn

from netadapt import load
from netadapt.baselines.uniform import uniform_widths
from netadapt.errors import ConfigError
from netadapt.network import trace
from netadapt.runs.journal import read_records
from netadapt.runs.state import read_state
from netadapt.runs.status import status

ONE_SHOT: dict[str, Any] = {"method": "one-shot"}


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))


def test_one_shot_meets_the_budget_without_training_before_the_end(tmp_path: Path) -> None:
    family = run(tmp_path / "run", **ONE_SHOT)
    summary = status(tmp_path / "run")
    assert summary["met"]
    assert summary["training_images"] == 256  # the long-term fine-tune alone
    assert summary["forward_images"] > 0
    assert family.best.tuned
    assert load(family.best.folder, model=small_net())(IMAGE).shape == (1, 4)


def test_one_shot_goes_to_the_budget_at_once_and_tunes_nothing_on_the_way_whatever_the_schedule(tmp_path: Path) -> None:
    family = run(tmp_path / "run", method="one-shot", uniform=False, first_step="2%", contenders=3)
    assert family.variants[0].resources["latency"] <= 0.55 * family.initial.resources["latency"]
    assert status(tmp_path / "run")["training_images"] == 256


def test_every_one_shot_network_is_cut_from_the_start_network(tmp_path: Path) -> None:
    """A later network may have a unit that an earlier one lacked; its weights are those of the start, re-fitted."""
    run(tmp_path / "run", **ONE_SHOT, uniform=False)
    records = read_records(tmp_path / "run" / "journal.jsonl")
    network = trace(small_net(), IMAGE)
    proposals = [record.data for record in records if record.type == "iteration"]
    assert proposals
    for iteration in proposals:
        for proposal in iteration["proposals"]:
            narrower = [g.name for g in network.groups if proposal["widths"][g.name] < g.width]
            assert proposal["groups"] == narrower


class Block(nn.Module):
    """Adds to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(32, 32, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norms[1](self.second(self.norms[0](self.first(x)).relu()))).relu()


def residual_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)
        return nn.Sequential(*stem, Block(), Block(), Block(), *end).eval()


@pytest.mark.parametrize(
    "options",
    [
        ONE_SHOT,
        ONE_SHOT | {"exchanges": 4},
        ONE_SHOT | {"estimator": "table"},
        {"method": "netadapt", "mode": "faithful", "first_step": "30%"},
    ],
    ids=str,
)
def test_whole_blocks_go_where_they_are_offered(tmp_path: Path, options: dict[str, Any]) -> None:
    # the narrowest network with all blocks takes 18 %
    family = run(tmp_path / "run", "12%", residual_net(), blocks=True, uniform=False, **options)
    assert status(tmp_path / "run")["met"]
    small = load(family.best.folder, model=residual_net())
    gone = [name for name, width in family.best.widths.items() if not width]
    assert gone
    blocks = [type(part) for part in small[3:6]]
    assert [
        name for name, kind in zip(("3.first", "4.first", "5.first"), blocks, strict=True) if kind is nn.Identity
    ] == gone
    assert set(blocks) <= {Block, nn.Identity}
    assert sum(p.numel() for p in small.parameters()) == family.best.resources["parameters"]


def test_uniform_width_keeps_all_blocks(tmp_path: Path) -> None:
    family = run(tmp_path / "run", "30%", residual_net(), blocks=True, method="uniform")
    assert min(family.best.widths.values()) == 8


def test_unless_asked_for_no_whole_networks_are_scored(tmp_path: Path) -> None:
    run(tmp_path / "run", **ONE_SHOT, uniform=False)
    assert status(tmp_path / "run")["met"]
    assert not read_state(tmp_path / "run").exchanges


def test_exchanges_are_for_one_shot(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'exchanges = 8 needs method = "one-shot"; write 0'):
        run(tmp_path / "run", exchanges=8)


def test_uniform_is_a_method_too(tmp_path: Path) -> None:
    family = run(tmp_path / "run", method="uniform")
    assert status(tmp_path / "run")["met"]
    assert read_state(tmp_path / "run").uniform is None  # not compared with itself
    network = trace(small_net(), IMAGE)
    allowed = uniform_widths(network.groups, multiple=8, minimum=8).tolist()
    assert all(network.vector(variant.widths).tolist() in allowed for variant in family.variants)


def test_from_scratch_is_uniform_with_nothing_learned(tmp_path: Path) -> None:
    # the seed of the weights that this network was drawn with would give the same again
    options: dict[str, Any] = {"seed": 5}
    scratch = run(tmp_path / "scratch", method="from-scratch", **options)
    uniform = run(tmp_path / "uniform", method="uniform", **options)
    assert scratch.best.widths == uniform.best.widths
    assert read_state(tmp_path / "scratch").uniform is None  # not compared with itself
    start = small_net().first.weight
    fresh = load(tmp_path / "scratch/variants/001", model=small_net()).first.weight
    kept = load(tmp_path / "uniform/variants/001", model=small_net()).first.weight
    assert all(any(torch.equal(row, other) for other in start) for row in kept)
    assert not any(torch.equal(row, other) for row in fresh for other in start)


def test_guided_by_macs_nothing_is_measured_but_the_steps(tmp_path: Path) -> None:
    run(tmp_path / "run", estimator="macs", uniform=False)
    assert status(tmp_path / "run")["met"]
    state = read_state(tmp_path / "run")
    assert state.estimator is not None
    assert state.estimator["networks_measured"] == 1  # the original
    start = trace(small_net(), IMAGE)
    first = state.steps[0]
    share = start.macs(first["widths"]) / start.macs()
    assert first["estimated"]["latency"] == pytest.approx(share * state.start["initial"]["resources"]["latency"])


def test_several_groups_may_share_a_step(tmp_path: Path) -> None:
    family = run(tmp_path / "run", groups_per_step=2, uniform=False)
    assert status(tmp_path / "run")["met"]
    alone = run(tmp_path / "alone", uniform=False)
    steps = read_state(tmp_path / "run").steps
    assert any("+" in step["group"] for step in steps)
    assert not any("+" in step["group"] for step in read_state(tmp_path / "alone").steps)
    assert max(len(family.variants), len(alone.variants)) <= 8
    constraints = [
        r.data["constraint"] for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "iteration"
    ]
    for step, constraint in zip(steps, constraints, strict=True):  # the whole step is made, not a share of it
        assert step["estimated"]["latency"] <= constraint["latency"] * (1 + 1e-9)


def test_sharing_steps_is_for_the_fast_mode_of_netadapt(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'groups_per_step = 2 needs method = "netadapt" and mode = "fast"'):
        run(tmp_path / "run", groups_per_step=2, mode="faithful")


def test_one_shot_obeys_several_budgets(tmp_path: Path) -> None:
    family = run(tmp_path / "run", {"latency": "60%", "parameters": "40%"}, **ONE_SHOT, uniform=False)
    assert status(tmp_path / "run")["met"]
    assert family.best.resources["parameters"] <= 0.4 * family.initial.resources["parameters"]
