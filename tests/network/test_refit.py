"""The re-fit on networks where the answer is known, on all families, and on a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.errors import ConfigError, NonFinite
from netadapt.network import Network, trace
from netadapt.network.batch_norm import refresh_batch_norm
from netadapt.network.importance import LargestNorm
from netadapt.network.norm_shift import SHIFT_IMAGES
from netadapt.network.refit import LeastSquaresRefit, refit_sequential


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        yield


def inputs_like(network: Network, count: int) -> Any:
    """Return ``count`` random inputs of the shapes that the network was traced with."""
    inputs = network.example_inputs
    if isinstance(inputs, dict):
        return {name: torch.randn(count, *value.shape[1:]) for name, value in inputs.items()}
    return torch.randn(count, *inputs.shape[1:])


def outputs_of(module: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        outputs = module.eval()(**x) if isinstance(x, dict) else module.eval()(x)
    return torch.cat([value.flatten(1) for value in outputs.values()], 1) if isinstance(outputs, dict) else outputs


def redundant(norm: bool = False) -> tuple[nn.Sequential, Tensor]:
    """A linear net whose hidden unit 6 is a copy of unit 1 and unit 7 the sum of units 2 and 3."""
    first = nn.Conv2d(3, 8, 3, bias=not norm)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter[6], parameter[7] = parameter[1], parameter[2] + parameter[3]
    norms = [nn.BatchNorm2d(5)] if norm else []
    model = nn.Sequential(first, nn.Conv2d(8, 5, 3, bias=not norm), *norms, nn.AdaptiveAvgPool2d(2))
    return model.double().eval(), torch.randn(120, 3, 8, 8, dtype=torch.float64) + 0.5


@pytest.mark.parametrize("norm", [False, True])
def test_redundant_units_go_first_and_the_refit_is_exact(norm: bool) -> None:
    model, x = redundant(norm)
    if norm:
        refresh_batch_norm(model, [x])
    network = trace(model, x[:1])
    choice = LeastSquaresRefit(network, model, x.split(40), ridge=1e-10)
    order = choice.removal_order("0")
    assert len({1, 6} & set(order[:2])) == 1
    assert len({2, 3, 7} & set(order[:2])) == 1
    kept = choice.choose("0", 6)
    small = choice.apply({"0": kept})
    assert torch.allclose(outputs_of(small, x), outputs_of(model, x), atol=1e-6)
    cut = network.shrink({"0": kept})
    assert not torch.allclose(outputs_of(cut, x), outputs_of(model, x), atol=0.05)
    again = refit_sequential(network, {"0": kept}, None, model, x.split(40), ridge=1e-10)
    assert torch.allclose(outputs_of(again, x), outputs_of(model, x), atol=1e-6)


def test_images_that_a_network_sees_are_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
    x = torch.randn(300, 3, 2, 2)
    seen: list[int] = []
    choice = LeastSquaresRefit(trace(model.eval(), x[:1]), model, [x], saw=seen.append)
    kept = {name: choice.choose(name, 4) for name in ("0", "3")}
    assert sum(seen) == 300  # the moments of both layers in one pass
    choice.apply({"0": kept["0"]})
    assert sum(seen) == 300 + 2 * SHIFT_IMAGES  # statistics before the cut and after it
    choice.apply({"0": kept["0"]})
    assert sum(seen) == 300 + 3 * SHIFT_IMAGES
    choice.apply(kept)
    assert sum(seen) == 600 + 4 * SHIFT_IMAGES  # re-fitted one after the other


def test_removal_costs_are_those_of_explicit_least_squares() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).double().eval()
    x = torch.randn(300, 6, dtype=torch.float64)
    network = trace(model, x[:2])
    hidden = torch.cat([outputs_of(model[:2], x), torch.ones(300, 1, dtype=torch.float64)], 1)
    wanted = outputs_of(model, x)
    losses = []
    for unit in range(5):
        rest = hidden[:, [c for c in range(6) if c != unit]]
        losses.append(float((rest @ torch.linalg.lstsq(rest, wanted).solution - wanted).square().sum()))
    choice = LeastSquaresRefit(network, model, [x], ridge=1e-11)
    assert choice.removal_order("0")[0] == int(np.argmin(losses))
    small = choice.apply({"0": choice.choose("0", 4)})
    assert float((outputs_of(small, x) - wanted).square().sum()) == pytest.approx(min(losses), rel=1e-6)


def test_choices_are_nested_sorted_and_deterministic(network_of: Callable[[str], Network]) -> None:
    network = network_of("mobilenet_v2")
    x = torch.randn(40, 3, 16, 16)
    choice, again = (LeastSquaresRefit(network, network.model, [x]) for _ in range(2))
    for group in network.groups:
        choices = [choice.choose(group.name, width) for width in range(1, group.width + 1)]
        assert [len(kept) for kept in choices] == list(range(1, group.width + 1))
        assert all(list(kept) == sorted(kept) for kept in choices)
        assert all(set(a) < set(b) for a, b in pairwise(choices))
        assert again.removal_order(group.name) == choice.removal_order(group.name)


def test_every_family_can_be_refitted_twice(family, random_kept) -> None:
    """One group after the other from a network that has been cut, re-fitted and cut again, all at once too."""
    network: Network = family.network
    batch = inputs_like(network, 40)
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    choice = LeastSquaresRefit(network, network.model, [batch])
    kept = {g.name: choice.choose(g.name, max(1, g.width * 3 // 4)) for g in network.groups}
    module = choice.apply(kept)
    assert network.kept_of(module) == kept
    choice.prepare(module)
    for group in network.groups:
        smaller = choice.choose(group.name, max(1, group.width // 2))
        assert set(smaller) <= set(kept[group.name])
        result = choice.apply({group.name: smaller})
        assert network.widths_of(result)[group.name] == max(1, group.width // 2)
        assert all(value.isfinite().all() for value in result.state_dict().values())
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())


def test_refit_comes_closer_to_the_original_than_norms(family) -> None:
    network: Network = family.network
    x, fresh = inputs_like(network, 160), inputs_like(network, 40)
    model = network.shrink({})
    refresh_batch_norm(model, [x])
    widths = {g.name: max(1, g.width * 3 // 4) for g in network.groups}
    choices = (LargestNorm(network), LeastSquaresRefit(network, model, [x]))
    errors = []
    for choice in choices:
        choice.prepare(model)
        small = choice.apply({name: choice.choose(name, width) for name, width in widths.items()})
        refresh_batch_norm(small, [x])
        errors.append(float((outputs_of(small, fresh) - outputs_of(model, fresh)).square().mean()))
    assert errors[1] < errors[0]


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 8 - 1, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)


def test_on_a_trained_network_the_refit_loses_less_than_norms() -> None:
    x, y = digits()
    parts = [nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, 2), nn.ReLU()]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(96, 10))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        index = torch.randint(0, 1200, (100,))
        optimiser.zero_grad()
        F.cross_entropy(model(x[index]), y[index]).backward()
        optimiser.step()
    model.eval()
    network = trace(model, x[:1])
    choices = LargestNorm(network), LeastSquaresRefit(network, model, x[:1200].split(300))
    for name, width in (("0", 8), ("3", 10)):
        losses = []
        for choice in choices:
            choice.prepare(model)
            small = choice.apply({name: choice.choose(name, width)})
            refresh_batch_norm(small, x[:1200].split(300))
            losses.append(float(F.cross_entropy(outputs_of(small, x[1200:]), y[1200:])))
        assert losses[1] < losses[0]


def test_a_group_without_consumers_that_can_be_fitted_is_ordered_by_norm(
    network_of: Callable[[str], Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netadapt.network.moments._LARGEST_FAN_IN", 15)
    network = network_of("vgg")  # its linear layers have a fan-in of 64 and 20, its convolutions of 27 and more
    choice, norms = LeastSquaresRefit(network, network.model, [torch.randn(20, 3, 16, 16)]), LargestNorm(network)
    for group in network.groups:
        kept = choice.choose(group.name, 5)
        assert kept == norms.choose(group.name, 5)
        cut, fitted = norms.apply({group.name: kept}), choice.apply({group.name: kept})
        assert all(torch.equal(value, cut.state_dict()[name]) for name, value in fitted.state_dict().items())


def test_moments_are_gathered_in_parts_where_memory_is_short(
    network_of: Callable[[str], Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of("resnet_a")
    x = torch.randn(40, 3, 16, 16)
    whole = LeastSquaresRefit(network, network.model, [x])
    orders = {g.name: whole.removal_order(g.name) for g in network.groups}
    monkeypatch.setattr("netadapt.network.refit._MOMENT_BYTES", 0)
    parts = LeastSquaresRefit(network, network.model, [x])
    assert {g.name: parts.removal_order(g.name) for g in network.groups} == orders


def test_modes_stay(network_of: Callable[[str], Network]) -> None:
    network = network_of("mobilenet_v1")
    module = network.shrink({}).train()
    choice = LeastSquaresRefit(network, module, [torch.randn(20, 3, 16, 16)])
    name = network.groups[0].name
    assert all(part.training for part in choice.apply({name: choice.choose(name, 5)}).modules())
    assert all(part.training for part in module.modules())


def test_a_width_out_of_range_is_refused() -> None:
    model, x = redundant()
    choice = LeastSquaresRefit(trace(model, x[:1]), model, [x])
    with pytest.raises(ConfigError, match=r"width of 0: 9 is not in 1\.\.8"):
        choice.choose("0", 9)


def test_weights_that_are_not_finite_are_never_returned() -> None:
    model, x = redundant()
    network = trace(model, x[:1])
    broken = network.shrink({})
    with torch.no_grad():
        broken.get_parameter("0.weight")[0] = torch.inf
    choice = LeastSquaresRefit(network, model, [x])
    choice.prepare(broken)
    with pytest.raises(NonFinite):
        choice.choose("0", 4)
    with pytest.raises(NonFinite):
        refit_sequential(network, {"0": (0, 1)}, broken, model, [x])


@pytest.mark.slow
def test_half_of_a_layer_of_resnet20(netadapt_data: Path) -> None:
    """Untuned accuracy on CIFAR-10 after cutting one group by half: the re-fit keeps nearly all of it."""
    from io import BytesIO

    import pyarrow.parquet as pq
    from PIL import Image

    from netadapt.models import resolve_model

    def load(file: str, count: int) -> tuple[Tensor, Tensor]:
        table = pq.read_table(netadapt_data / "cifar10" / file)
        rows = np.random.default_rng(0).permutation(len(table))[:count]
        table = table.take(rows)
        images = [np.asarray(Image.open(BytesIO(row["bytes"])).convert("RGB")) for row in table["image"].to_pylist()]
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
        return (x - mean) / std, torch.tensor(table["label"].to_pylist())

    model, example = resolve_model(f"resnet20?weights={netadapt_data}/weights/resnet20_cifar10.safetensors")
    network = trace(model, example)
    x, _ = load("train.parquet", 800)
    test, labels = load("test.parquet", 5000)  # of 1,000 the standard error of what a cut costs is half a point

    def accuracy(module: nn.Module) -> float:
        return float((outputs_of(module, test).argmax(1) == labels).float().mean())

    norms, refit = LargestNorm(network), LeastSquaresRefit(network, model, x.split(100))
    start = accuracy(model)
    for name in ("layer1.1.conv1", "layer3.0.conv1"):
        width = network.group(name).width // 2
        cut = norms.apply({name: norms.choose(name, width)})
        refresh_batch_norm(cut, x.split(100))
        refitted = accuracy(refit.apply({name: refit.choose(name, width)}))
        assert refitted > accuracy(cut)
        assert refitted > start - 0.03
