"""From a run folder to its networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from netadapt.cli.originals import is_code, original_of, read_config, variant_at
from netadapt.errors import BudgetError, ConfigError, RunDamaged
from netadapt.family import Family
from netadapt.runs.config import load_config, to_toml


@pytest.mark.parametrize(
    "source", ["mobilenet_v2?width=0.5", "timm:resnet18", "torchvision:x", "digits", "folder:/data"]
)
def test_what_is_installed_is_no_code_of_the_folder(source: str) -> None:
    assert not is_code(source)


@pytest.mark.parametrize("source", ["net.py:build", "/a/net.py:build?width=3", "python:MyNet", "os:system"])
def test_files_and_functions_are(source: str) -> None:
    assert is_code(source)


def test_the_structure_follows_the_configuration(workplace: Path, tmp_path: Path) -> None:
    settings = ['model.source="mobilenet_v1?width=0.25&resolution=32&classes=20&batch_norm=0"']
    settings += ["model.classes=10", "model.unfold_batch_norm=true"]
    config = load_config(workplace / "small.toml", settings)
    (tmp_path / "config.toml").write_text(to_toml(config))
    model, example = original_of(tmp_path, None)
    assert model(example).shape == (1, 10)
    assert any("running_mean" in name for name, _ in model.named_buffers())


def test_a_folder_without_configuration_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(RunDamaged, match=r"config\.toml"):
        read_config(tmp_path)
    (tmp_path / "config.toml").write_text("schema = 2")
    with pytest.raises(RunDamaged):
        read_config(tmp_path)


def test_a_run_from_python_asks_for_the_class(finished: Path, workplace: Path, tmp_path: Path) -> None:
    config = load_config(workplace / "small.toml", ['model.source="python:MyNet"'])
    (tmp_path / "config.toml").write_text(to_toml(config))
    with pytest.raises(ConfigError, match=r"--model file\.py:function"):
        original_of(tmp_path, None)


def test_words_names_and_budgets_choose_a_variant(finished: Path) -> None:
    family = Family.read(finished)
    assert variant_at(family, "initial").name == "000"
    assert variant_at(family, "best") == family.best
    assert variant_at(family, "001").name == "001"
    assert variant_at(family, "100%").resources["latency"] <= family.initial.resources["latency"]
    with pytest.raises(BudgetError, match="initial"):
        variant_at(family, "the good one")
