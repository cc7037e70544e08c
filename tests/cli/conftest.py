"""A command line in this process, a network that costs nothing, and one finished run that all tests read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netadapt.cli import main

MODEL_FILE = """
import torch
from torch import nn


def build(width: int = 16):
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )
    return model, torch.zeros(1, 3, 16, 16)
"""

CONFIG = """
schema = 1
[model]
source = "{model}"
[platform]
name = "simulated?noise=0.002"
[budget]
latency = "85%"
[task]
source = "digits"
[search]
first_step = "8%"
networks = 12
contenders = 1
calibration_images = 64
[training.short_term]
images = 64
[training.long_term]
images = 64
"""


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of measurements of our own, also for child processes."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETADAPT_CACHE", str(folder))
        yield folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net.py`` and ``small.toml``."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "net.py").write_text(MODEL_FILE)
    (folder / "small.toml").write_text(CONFIG.format(model=f"{folder}/net.py:build"))
    return folder


@pytest.fixture(scope="session")
def source(workplace: Path) -> str:
    """The MODEL text of the tiny network."""
    return f"{workplace}/net.py:build"


@pytest.fixture(scope="session")
def finished(workplace: Path) -> Path:
    """The folder of a run that has come to its end; read it only."""
    out = workplace / "run"
    code = main(["run", str(workplace / "small.toml"), "--out", str(out)])
    assert code == 0
    return out


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A fresh working directory."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
