"""Whole runs on the simulated platform: the real trace, surgery, training, journal and report, on a tiny network."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mini_netadapt as mini
import numpy as np
import pytest
import torch
from small_run import IMAGE, QUICK, Colours, SmallNet, deeper_net, run, small_net, told
from torch import Tensor, nn

from netadapt import Adaptation, adapt, load
from netadapt.errors import BudgetError, BudgetUnreachable, ConfigError, Interrupted
from netadapt.network import trace
from netadapt.platforms import resolve_platform
from netadapt.platforms.simulated import SimulatedPlatform
from netadapt.runs.journal import read_records
from netadapt.runs.status import status
from netadapt.scores import Score


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("mode", ["fast", "faithful"])
@pytest.mark.parametrize("filters", ["refit", "norm"])
def test_a_network_is_adapted_to_half_its_latency(tmp_path: Path, mode: str, filters: str) -> None:
    family = run(tmp_path / "run", mode=mode, filters=filters)
    summary = status(tmp_path / "run")
    assert summary["met"]
    assert family.best.resources["latency"] <= 0.5 * family.initial.resources["latency"]
    assert family.best.test_accuracy is not None and family.best.tuned
    assert [v.name for v in family.variants] == [f"{i:03d}" for i in range(1, len(family.variants) + 1)]
    assert summary["final"]["latency_ms"] <= 0.5 * summary["initial"]["latency_ms"]
    assert summary["training_images"] > 256 and summary["forward_images"] > 0
    model = load(family.best.folder, model=small_net())
    assert trace(model, IMAGE).macs() == family.best.resources["macs"]


def test_groups_under_a_norm_over_channels_are_cut_when_asked_for(tmp_path: Path) -> None:
    def normed() -> SmallNet:
        net = small_net()
        net.first_norm, net.second_norm = nn.GroupNorm(1, 64), nn.GroupNorm(1, 96)
        return net

    with pytest.raises(BudgetError, match="exact = false under"):
        adapt(normed(), IMAGE, Colours(), "50%", run=tmp_path / "exact", **QUICK)
    family = adapt(normed(), IMAGE, Colours(), "50%", run=tmp_path / "run", exact=False, uniform=False, **QUICK)
    assert family.best.resources["latency"] <= 0.5 * family.initial.resources["latency"]
    best = load(family.best.folder, model=normed())
    assert best.first_norm.num_channels == family.best.widths["first"] < 64
    assert trace(best, IMAGE, exact=False).macs() == family.best.resources["macs"]


def test_the_run_folder_has_everything_that_its_user_needs(tmp_path: Path) -> None:
    run(tmp_path / "run")
    names = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*")}
    wanted = {"config.toml", "environment.json", "journal.jsonl", "curve.csv", "report.html", "variants/000/load.py"}
    wanted |= {f"variants/001/{name}" for name in ("architecture.json", "weights.safetensors", "measurement.json")}
    assert wanted <= names
    assert not any("proposals/" in name for name in names)
    records = [record.type for record in read_records(tmp_path / "run" / "journal.jsonl")]
    assert records[:2] == ["start", "estimator"]
    assert {"iteration", "proposal", "step", "long_term", "uniform", "final"} <= set(records)


def constraints(folder: Path) -> list[dict[str, float]]:
    """The tightened constraint of every iteration."""
    return [r.data["constraint"] for r in read_records(folder / "journal.jsonl") if r.type == "iteration"]


SEVERAL = {"latency": "45%", "parameters": "40%", "memory": "50%", "energy": "50%"}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_step_meets_all_constraints_of_several_budgets(tmp_path: Path, count: int) -> None:
    budget = dict(list(SEVERAL.items())[:count])
    family = run(tmp_path / "run", budget, deeper_net(), uniform=False)
    summary, before, tightened = status(tmp_path / "run"), family.initial.resources, []
    for constraint, variant in zip(constraints(tmp_path / "run"), family.variants, strict=True):
        assert all(variant.resources[name] <= limit for name, limit in constraint.items())
        far = max(budget, key=lambda name: before[name] / summary["budget"][name])
        assert constraint[far] < before[far]
        others = {name: max(summary["budget"][name], before[name]) for name in budget if name != far}
        assert {name: constraint[name] for name in others} == others
        tightened.append(far)
        before = variant.resources
    assert len(set(tightened)) > 1  # they take turns
    final = read_records(tmp_path / "run" / "journal.jsonl")[-1].data
    assert summary["met"] and all(final["measured"][name] <= limit for name, limit in summary["budget"].items())


def test_a_noisy_latency_does_not_coarsen_the_steps_of_what_is_known_exactly(tmp_path: Path) -> None:
    budget = {"latency": "60%", "memory": "50%"}
    options = {**QUICK, "platform": "simulated?noise=0.1", "first_step": "5%"}
    adaptation = Adaptation(deeper_net(), IMAGE, Colours(), budget, run=tmp_path / "run", **options)
    with contextlib.closing(adaptation):
        plan = adaptation.plan()
    assert plan["noise"] > 0.02 and plan["noise_by_resource"]["memory"] == 0
    assert plan["first_step"]["latency"] == pytest.approx(3 * plan["noise"] * plan["initial"]["latency"])
    assert plan["first_step"]["memory"] == pytest.approx(0.05 * plan["initial"]["memory"])


@pytest.mark.parametrize("faults", ["ragged=0.3", "ragged=0.6", "ragged=0.3&noise=0.01"])
def test_no_step_has_a_width_for_which_a_larger_one_is_cheaper(tmp_path: Path, faults: str) -> None:
    """The search goes by multiples of 8 on a device of vectors of 16, which is slower where one is not full."""
    platform, image = f"simulated?staircase=16&{faults}", torch.zeros(1, 3, 48, 48)
    options = {**QUICK, "platform": platform, "first_step": "5%", "uniform": False}
    family = adapt(deeper_net(), image, Colours(), "50%", run=tmp_path / "run", **options)
    device, network = resolve_platform(platform), trace(deeper_net(), image)
    assert isinstance(device, SimulatedPlatform)
    assert device.predict(network, {"6": 56}).latency_ms > device.predict(network, {"6": 64}).latency_ms
    for variant in family.variants:
        own = device.predict(network, variant.widths).latency_ms
        for group in network.groups:
            larger = range(variant.widths[group.name] + 8, group.width + 1, 8)
            costs = [device.predict(network, {**variant.widths, group.name: width}).latency_ms for width in larger]
            assert min(costs, default=own) >= own


METER = """
import json, os, sys
mb = os.path.getsize(sys.argv[-1]) / 1e6
print(json.dumps({"latency_ms": [1 + mb, 1.01 + mb], "energy_mj": 0.3 + 2 * mb}))
"""


def test_a_program_that_reports_joules_adapts_to_an_energy_budget(tmp_path: Path) -> None:
    (tmp_path / "meter.py").write_text(METER)
    program = shlex.join([sys.executable, "-S", str(tmp_path / "meter.py")])
    platform = f"command:{program}?resources=latency,energy"
    budget = {"energy": "70%", "parameters": "70%"}
    options = {"platform": platform, "networks": 8, "sessions": 2, "first_step": "20%", "uniform": False}
    family = run(tmp_path / "run", budget, **options)
    assert status(tmp_path / "run")["met"]
    assert family.best.resources["energy"] <= 0.7 * family.initial.resources["energy"]
    for constraint, variant in zip(constraints(tmp_path / "run"), family.variants, strict=True):
        assert all(variant.resources[name] <= 1.02 * limit for name, limit in constraint.items())


def test_where_a_device_is_noisy_measurements_take_longer_before_steps_grow(tmp_path: Path) -> None:
    def taken_up() -> Adaptation:
        options = {**QUICK, "platform": "simulated?noise=0.02", "first_step": "5%"}
        return Adaptation(deeper_net(), IMAGE, Colours(), "60%", run=tmp_path / "run", **options)

    with contextlib.closing(taken_up()) as adaptation:
        plan = adaptation.plan()
        assert plan["sessions"] > adaptation.config.measure.sessions
        assert plan["first_step"]["latency"] == pytest.approx(0.05 * plan["initial"]["latency"])
        next(iter(adaptation))
    with contextlib.closing(taken_up()) as adaptation:
        assert next(iter(adaptation)).iteration == 2
        told = adaptation.folder.state().start["noise"]  # type: ignore[index]
        assert adaptation.metering.protocol.sessions == told["sessions"] > adaptation.config.measure.sessions
        assert adaptation.metering.noise == told["of_a_step_by_resource"]
    steps = [r.data for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "step"]
    assert [len(step["measurement"]["sessions_ms"]) for step in steps] == [told["sessions"]] * 2


@pytest.mark.slow
def test_latency_and_memory_meet_their_budgets_on_a_real_runtime(tmp_path: Path) -> None:
    options = {"platform": "local/onnxruntime?threads=1", "networks": 16, "first_step": "20%", "uniform": False}
    budget = {"latency": "70%", "memory": "80%"}
    family = adapt(deeper_net(), torch.zeros(1, 3, 96, 96), Colours(), budget, run=tmp_path / "run", **QUICK | options)
    last = [r.data for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "step"][-1]
    assert all(last["measured"][name] <= limit for name, limit in status(tmp_path / "run")["budget"].items())
    measurement = family.best.measurement
    assert measurement is not None and {"latency", "memory"} == set(measurement.relative_half_widths)
    assert all(constraint.keys() == budget.keys() for constraint in constraints(tmp_path / "run"))


def test_a_run_is_an_iterator_that_can_be_left_and_taken_up(tmp_path: Path) -> None:
    adaptation = Adaptation(small_net(), IMAGE, Colours(), "50%", run=tmp_path / "run", **QUICK)
    first = next(iter(adaptation))
    adaptation.close()
    assert first.iteration == 1 and first.groups and first.resources["latency"] < adaptation._initial["latency"]
    family = run(tmp_path / "run")
    assert family.variants[0].widths == first.widths
    whole = tmp_path / "whole"
    run(whole)
    assert told(tmp_path / "run") == told(whole)


@pytest.mark.parametrize("proposals", [1, 2, 3])
def test_an_interrupted_run_resumes_after_the_last_finished_proposal(tmp_path: Path, proposals: int) -> None:
    folder, seen = tmp_path / "run", []

    def listener(type_: str, data: Mapping[str, Any]) -> None:
        if type_ == "proposal":
            seen.append(data["key"])
            if len(seen) == proposals:
                adaptation.stop()

    options = {key: value for key, value in QUICK.items() if key != "platform"}
    platform = QUICK["platform"]
    adaptation = Adaptation(small_net(), IMAGE, Colours(), "50%", platform, folder, listener=listener, **options)
    with pytest.raises(Interrupted, match="the same command"):
        adaptation.finish()
    adaptation.close()
    again: list[str] = []
    resumed = Adaptation(
        small_net(),
        IMAGE,
        Colours(),
        "50%",
        platform,
        folder,
        listener=lambda type_, data: again.append(data["key"]) if type_ == "proposal" else None,
        **options,
    )
    resumed.finish()
    resumed.close()
    assert not set(seen) & set(again)
    run(tmp_path / "whole")
    assert told(folder) == told(tmp_path / "whole")


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = (tmp_path / "run" / "journal.jsonl").read_bytes()
    run(tmp_path / "run")
    assert (tmp_path / "run" / "journal.jsonl").read_bytes() == before


def test_a_run_with_other_settings_is_refused_with_the_differing_keys(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"search.decay: 0.96 -> 0.9"):
        run(tmp_path / "run", decay=0.9)


def test_a_budget_below_the_floor_is_refused_before_any_training(tmp_path: Path) -> None:
    class Untrainable(Colours):
        def loss(self, outputs: Tensor, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
            if outputs.requires_grad:
                raise AssertionError("training was started")
            return super().loss(outputs, batch)

    with pytest.raises(BudgetError, match=r"cannot be reached on simulated.*The smallest network.*minimum_width"):
        adapt(small_net(), IMAGE, Untrainable(), "1%", run=tmp_path / "run", **QUICK)
    with pytest.raises(BudgetError, match="met by the original network already"):
        adapt(small_net(), IMAGE, Untrainable(), "1000 ms", run=tmp_path / "run2", **QUICK)


def test_an_unknown_argument_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'unknown argument "contender" \(did you mean "contenders"\?\)'):
        run(tmp_path / "run", contender=3)


def test_a_proposal_whose_loss_is_not_finite_fails_alone(tmp_path: Path) -> None:
    class Fragile(Colours):
        """The loss is NaN whenever the first group has been cut to fewer than 64 channels."""

        def loss(self, outputs: Tensor, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
            return super().loss(outputs, batch) * (float("nan") if self.cut else 1.0)

        def forward(self, model: nn.Module, batch: Any) -> Tensor:
            first = getattr(model, "first", None)
            self.cut = first is not None and first.out_channels < 64
            return super().forward(model, batch)

    options = {**QUICK, "mode": "faithful", "uniform": False}
    family = adapt(small_net(), IMAGE, Fragile(), "70%", run=tmp_path / "run", **options)
    proposals = [r.data for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "proposal"]
    failed = [p for p in proposals if p["failed"] is not None]
    assert {p["group"] for p in failed} == {"first"}
    assert all(variant.widths["first"] == 64 for variant in family.variants)


def test_a_proposal_whose_loss_was_not_finite_once_is_tried_again_more_slowly(tmp_path: Path) -> None:
    class Hiccup(Colours):
        """The very first training loss is NaN."""

        hiccups = 1

        def loss(self, outputs: Tensor, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
            loss = super().loss(outputs, batch)
            if outputs.requires_grad and self.hiccups:
                self.hiccups -= 1
                return loss * float("nan")
            return loss

    adapt(small_net(), IMAGE, Hiccup(), "70%", run=tmp_path / "run", **{**QUICK, "uniform": False})
    proposals = [r.data for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "proposal"]
    assert all(p["failed"] is None for p in proposals)


def test_an_unreachable_budget_keeps_the_family_so_far(tmp_path: Path) -> None:
    """All networks fail to train, so the search cannot go on after it has begun."""

    class Broken(Colours):
        def loss(self, outputs: Tensor, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
            return super().loss(outputs, batch) * float("nan")

    with pytest.raises(BudgetUnreachable, match="no proposal stayed finite"):
        adapt(small_net(), IMAGE, Broken(), "50%", run=tmp_path / "run", **QUICK)
    summary = status(tmp_path / "run")
    assert summary["state"] == "unreachable" and not summary["met"]
    assert len(summary["family"]) == 1
    assert (tmp_path / "run" / "report.html").exists()


def test_any_variant_can_be_tuned_long_on_request(tmp_path: Path) -> None:
    run(tmp_path / "run")
    options = {key: value for key, value in QUICK.items() if key != "platform"}
    adaptation = Adaptation(small_net(), IMAGE, Colours(), "50%", QUICK["platform"], tmp_path / "run", **options)
    variant = adaptation.tune("001")
    adaptation.close()
    assert variant.tuned and variant.test_accuracy is not None
    assert json.loads((variant.folder / "architecture.json").read_text())


def test_the_users_network_and_the_global_state_are_left_alone(tmp_path: Path) -> None:
    model = small_net().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    adapt(model, IMAGE, Colours(), "70%", run=tmp_path / "run", **QUICK)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, grad)
    assert torch.equal(torch.rand(1), expected)


# ---- the oracle, with the real trace, surgery, journal and resources ------------------------------------------------
def counted(widths: Mapping[str, int]) -> dict[str, float]:
    """MACs and parameters of the oracle's TinyNet, by hand."""
    channels = [3, widths["first"], widths["second"], widths["third"], 10]
    taps, positions = (9, 9, 9, 1), (64, 64, 16, 1)
    pairs = [channels[i] * channels[i + 1] * taps[i] for i in range(4)]
    macs = sum(pair * place for pair, place in zip(pairs, positions, strict=True))
    return {"macs": float(macs), "parameters": float(sum(pairs) + 10)}


class OracleTask(Colours):
    """Scores a network as the oracle does: by which units it keeps."""

    def __init__(self, network: Any, model: nn.Module) -> None:
        super().__init__()
        self.network, self.traced = network, trace(model, torch.zeros(1, 3, 16, 16))

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.zeros(4, 3, 16, 16), torch.zeros(4, dtype=torch.int64)

    def evaluate(self, model: nn.Module, split: str) -> Score:
        kept = self.traced.kept_of(model)
        full = {name: tuple(range(width)) for name, width in self.network.groups.items()}
        return Score(*self.network.evaluate({**full, **kept}))


@pytest.mark.parametrize("rule", ["accuracy", "accuracy_per_resource"])
@pytest.mark.parametrize(
    "shares", [{"macs": 0.5}, {"parameters": 0.4}, {"macs": 0.6, "parameters": 0.35}], ids=lambda s: "+".join(s)
)
def test_a_run_finds_the_oracles_winners_widths_and_curve(tmp_path: Path, shares: dict[str, float], rule: str) -> None:
    model = mini.tiny_net()
    plain = mini.tiny_network(model)
    network = mini.Network(plain.groups, plain.norms, counted, plain.evaluate)
    start = counted(plain.groups)
    wanted = mini.adapt(
        network,
        {name: share * start[name] for name, share in shares.items()},
        {name: 0.05 * start[name] for name in shares},
        0.96,
        pick=rule,
    )
    family = adapt(
        model,
        torch.zeros(1, 3, 16, 16),
        OracleTask(network, model),
        {name: f"{100 * share}%" for name, share in shares.items()},
        platform="simulated",
        run=tmp_path / "run",
        mode="faithful",
        filters="norm",
        pick=rule,
        first_step="5%",
        networks=8,
        short_term={"images": 0},
        long_term={"images": 0},
        uniform=False,
    )
    assert [(v.iteration, v.widths) for v in family.variants] == [(s.iteration, s.widths) for s in wanted]
    steps = [r.data for r in read_records(tmp_path / "run" / "journal.jsonl") if r.type == "step"]
    assert [s["group"] for s in steps] == ["+".join(s.groups) for s in wanted]
    assert [(s["accuracy"], s["loss"]) for s in steps] == [(s.accuracy, s.loss) for s in wanted]
    for variant, step in zip(family.variants, wanted, strict=True):
        kept = trace(model, torch.zeros(1, 3, 16, 16)).kept_of(load(variant.folder, model=mini.tiny_net()))
        full = {name: tuple(range(width)) for name, width in plain.groups.items()}
        assert {**full, **{name: tuple(units) for name, units in kept.items()}} == step.kept
        assert all(np.isclose(variant.resources[name], step.resources[name]) for name in shares)
