"""The networks that the cells of a set-up start from: prepared once per set-up, then read by all of them.

What a set-up's ``[model]`` asks for (new classifier, un-folded norms, first fine-tune) is done by the product's own
code; the weights are kept under ``runs/starts``. Those that take too long for every machine to train anew are copied
to `COMMITTED` by hand, so that the cells of all machines start from the same. A cell names `load` as its MODEL.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor, nn

from netadapt.adaptation.preparation import build_model, build_task, start_network, structure_of
from netadapt.files import write_atomic
from netadapt.runs.config import load_config
from netadapt.runs.settings import TRACING, RunConfig

#: start weights that the repository brings along
COMMITTED = Path(__file__).resolve().parent / "start_weights"
#: of the preparation, and of the selection split of all cells: a start network must not have been trained on it
START_SEED = 0


def settings(setup: Path, seed: int) -> RunConfig:
    """Return the configuration of a set-up with ``seed`` for all draws but the selection split's (`START_SEED`)."""
    return load_config(setup, [f"run.seed={seed}", f"task.seed={START_SEED}"])


def weights_path(setup: Path, folder: Path) -> Path:
    """Return where the start weights of a set-up lie; the name changes with all settings that they depend on.

    Where the data lies is none of them: sources count as they are written.

    Args:
        setup: the TOML file.
        folder: of the start weights that are not `COMMITTED`.
    """
    config, written = settings(setup, START_SEED), tomllib.loads(setup.read_text())
    model = config.model.model_dump(exclude=set(TRACING)) | {"source": written["model"]["source"]}
    task = config.task.model_dump(exclude={"distillation", "temperature"}) | {"source": written["task"]["source"]}
    digest = hashlib.sha256(json.dumps([model, task], sort_keys=True).encode()).hexdigest()[:12]
    return _found(f"{setup.stem}-{digest}.safetensors", folder)


def _found(name: str, folder: Path) -> Path:
    """Return where start weights lie, or are to be written: among those of the repository, else in ``folder``."""
    return COMMITTED / name if (COMMITTED / name).is_file() else folder / name


def model_text(setup: Path, folder: Path) -> str:
    """Return the MODEL of the cells; it stays the same when weights are `COMMITTED`. See `weights_path`."""
    name = weights_path(setup, folder).name
    return f"{Path(__file__).resolve()}:load?setup={setup.resolve()}&folder={folder.resolve()}&name={name}"


def load(setup: str, folder: str, name: str) -> tuple[nn.Module, Any]:
    """Return a start network and its example inputs; `netadapt.models.resolve_model` calls it.

    The modules are those that the set-up's ``[model]`` leads to, so that groups, widths and exported files are the same
    as without this detour, and all cells share the estimator's samples.

    Args:
        setup: path of the TOML file.
        folder: of the start weights that are not `COMMITTED`.
        name: of the weights' file.
    """
    config = load_config(setup)
    model, example_inputs = build_model(config)
    start = structure_of(config, model, example_inputs, task=None)
    start.load_state_dict(load_file(_found(name, Path(folder))))
    return start, example_inputs


def prepare_start(setup: Path, folder: Path, should_stop: Callable[[], bool]) -> Path:
    """Prepare the start network of a set-up unless that has been done, and return where its weights lie.

    Args:
        setup: the TOML file.
        folder: of the start weights that are not `COMMITTED`; made if need be.
        should_stop: asked between batches.

    Raises:
        Interrupted: ``should_stop`` said so; finished epochs are kept and the same call goes on from there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = weights_path(setup, folder)
    if path.is_file():
        return path
    config = settings(setup, START_SEED)
    model, example_inputs = build_model(config)
    task = build_task(config, example_inputs)
    checkpoint = path.with_suffix(".checkpoint")
    start = start_network(config, model, example_inputs, task, checkpoint, None, should_stop)
    write_atomic(path, save({name: _stored(tensor) for name, tensor in start.state_dict().items()}))
    checkpoint.unlink(missing_ok=True)
    return path


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is kept: filters in half precision, statistics, scales and counters as they are."""
    return (tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor).contiguous()
