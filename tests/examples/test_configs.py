"""Every configuration in examples/ is complete: read, checked and planned up to the point where training starts."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from netadapt.adaptation.adaptation import Adaptation
from netadapt.models import resolve_model
from netadapt.runs.config import load_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def names() -> list[str]:
    return sorted(path.name for path in EXAMPLES.glob("*.toml"))


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand classes of two tiny images for training and one for testing."""
    folder = tmp_path_factory.mktemp("imagenet")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8))
    for index in range(1000):
        for split, count in (("train", 2), ("val", 1)):
            place = folder / split / f"n{index:08d}"
            place.mkdir(parents=True)
            for number in range(count):
                image.save(place / f"{number}.png")
    return folder


def plan(name: str, tmp_path: Path, overrides: list[str]) -> dict[str, object]:
    config = load_config(EXAMPLES / name, ["platform.name=simulated?staircase=8", *overrides])
    with contextlib.closing(Adaptation.from_config(config, folder=tmp_path / "run")) as adaptation:
        return adaptation.plan()


def test_there_is_a_configuration_for_each_thing_to_show() -> None:
    wanted = {"digits", "resnet20_cifar10", "mobilenet_v1_tiny_imagenet", "mobilenet_v1_small_imagenet"}
    assert {f"{name}.toml" for name in wanted | {"mobilenet_v2_imagenet"}} <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_key_is_known_and_every_value_allowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NETADAPT_DATA", "IMAGENET", "MOBILENET_V2_WEIGHTS"):
        monkeypatch.setenv(variable, "/data")
    config = load_config(EXAMPLES / name)
    written = tomllib.loads((EXAMPLES / name).read_text())
    assert config.model.source.startswith(written["model"]["source"].split("?")[0])


def test_the_paper_s_numbers_are_in_its_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 4.1: 0.5 ms x 0.96, 40,000 iterations of 128 at 0.0045, then 0.045; 10 hold-out images per class."""
    for variable in ("NETADAPT_DATA", "IMAGENET"):
        monkeypatch.setenv(variable, "/data")
    config = load_config(EXAMPLES / "mobilenet_v1_small_imagenet.toml")
    assert (config.search.first_step, config.search.decay) == ("0.5 ms", 0.96)
    assert config.training.short_term.images == 40_000 * config.task.batch_size == 40_000 * 128
    assert (config.training.short_term.lr, config.training.long_term.lr) == (0.0045, 0.045)
    assert (config.search.mode, config.search.filters, config.search.pick) == ("faithful", "norm", "accuracy")
    assert (config.task.selection, config.search.estimator) == (10, "table")


def test_the_demo_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    plan("digits.toml", tmp_path, [])


@pytest.mark.parametrize("name", ["resnet20_cifar10.toml", "mobilenet_v1_tiny_imagenet.toml"])
def test_a_run_on_the_development_data_is_planned(
    name: str, tmp_path: Path, netadapt_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    found = plan(name, tmp_path, [])
    assert found["floor"]["latency"] < found["budget"]["latency"] < found["initial"]["latency"]  # type: ignore[index]


def test_the_papers_mobilenet_v1_is_planned(
    tmp_path: Path, imagenet: Path, netadapt_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGENET", str(imagenet))
    found = plan("mobilenet_v1_small_imagenet.toml", tmp_path, ["task.selection=1"])
    assert found["budget"]["latency"] < found["initial"]["latency"]  # type: ignore[index]


@pytest.mark.slow
def test_the_papers_mobilenet_v2_is_planned(tmp_path: Path, imagenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "weights.safetensors"
    model, _ = resolve_model("mobilenet_v2")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGENET", str(imagenet))
    monkeypatch.setenv("MOBILENET_V2_WEIGHTS", str(weights))
    found = plan("mobilenet_v2_imagenet.toml", tmp_path, ["task.selection=1"])
    assert found["budget"]["latency"] < found["initial"]["latency"]  # type: ignore[index]
