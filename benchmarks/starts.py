"""The networks that the cells of a set-up start from: prepared once per set-up and seed, then read by all of them.

What a set-up's ``[model]`` asks for (new classifier, un-folded norms, first fine-tune) is done by the product's own
code; the weights are kept under ``runs/starts``. A cell names `load` as its MODEL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import nn

from netadapt.adaptation.preparation import build_model, build_task, start_network, structure_of
from netadapt.files import write_atomic
from netadapt.runs.config import load_config
from netadapt.runs.settings import RunConfig


def settings(setup: Path, seed: int) -> RunConfig:
    """Return the configuration of a set-up with ``seed`` for all draws, the selection split's too."""
    return load_config(setup, [f"run.seed={seed}", f"task.seed={seed}"])


def weights_path(setup: Path, seed: int, folder: Path) -> Path:
    """Return where the start weights of a set-up lie; the name changes with all that they depend on.

    Args:
        setup: the TOML file.
        seed: of the preparation.
        folder: of all start weights.
    """
    config = settings(setup, seed)
    depends_on = {"model": config.model.model_dump(), "task": config.task.model_dump(), "seed": seed}
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{setup.stem}-seed{seed}-{digest}.safetensors"


def model_text(setup: Path, seed: int, folder: Path) -> str:
    """Return the MODEL of the cells; see `weights_path` for the arguments."""
    weights = weights_path(setup, seed, folder)
    return f"{Path(__file__).resolve()}:load?setup={setup.resolve()}&weights={weights.resolve()}"


def load(setup: str, weights: str) -> tuple[nn.Module, Any]:
    """Return a start network and its example inputs; `netadapt.models.resolve_model` calls it.

    The modules are those that the set-up's ``[model]`` leads to, so that groups, widths and exported files are the same
    as without this detour, and all cells share the estimator's samples.

    Args:
        setup: path of the TOML file.
        weights: path of the kept weights.
    """
    config = load_config(setup)
    model, example_inputs = build_model(config)
    start = structure_of(config, model, example_inputs, task=None)
    start.load_state_dict(load_file(weights))
    return start, example_inputs


def prepare_start(setup: Path, seed: int, folder: Path, should_stop: Callable[[], bool]) -> Path:
    """Prepare the start network of a set-up unless that has been done, and return where its weights lie.

    Args:
        setup: the TOML file.
        seed: of the new classifier and of the first fine-tune.
        folder: of all start weights.
        should_stop: asked between batches.

    Raises:
        Interrupted: ``should_stop`` said so; finished epochs are kept and the same call goes on from there.
    """
    path = weights_path(setup, seed, folder)
    if path.is_file():
        return path
    config = settings(setup, seed)
    model, example_inputs = build_model(config)
    task = build_task(config, example_inputs)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = path.with_suffix(".checkpoint")
    start = start_network(config, model, example_inputs, task, checkpoint, None, should_stop)
    write_atomic(path, save({name: tensor.contiguous() for name, tensor in start.state_dict().items()}))
    checkpoint.unlink(missing_ok=True)
    return path
