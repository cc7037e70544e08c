"""From a run folder to the networks in it, without ever executing what the folder names.

``export`` needs the user's own class to build a variant; a copied folder may name any file as its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import BudgetError, ConfigError, RunDamaged

if TYPE_CHECKING:
    from torch import nn

    from netadapt.family import Family, Variant
    from netadapt.runs.settings import RunConfig


def read_config(run: Path) -> RunConfig:
    """Return the configuration of a run.

    Raises:
        RunDamaged: it has none, or it cannot be read.
    """
    from netadapt.runs.config import load_config
    from netadapt.runs.folder import CONFIG, inside

    path = inside(run, CONFIG)
    if not path.is_file():
        raise RunDamaged(f"{run} has no {CONFIG}: it is not the folder of a run, or not whole.")
    try:
        return load_config(path)
    except ConfigError as error:
        raise RunDamaged(f"{path} cannot be used: {error}") from error


def source_of(run: Path, config: RunConfig, given: str | None) -> str:
    """Return the MODEL text of a run's original network.

    Args:
        run: its folder, for the message.
        config: of the run.
        given: with ``--model``; it wins.

    Raises:
        ConfigError: the run's source is code, and the user did not name it.
    """
    if given is not None:
        return given
    source = config.model.source
    if is_code(source):
        raise ConfigError(
            f'{run} started from "{source}". Code that a run folder names is not executed by itself; if you trust '
            f"it, say so: --model {source if not source.startswith('python:') else 'file.py:function'}"
        )
    return source


def is_code(source: str) -> bool:
    """Tell whether a MODEL or a TASK is a function of somebody's, not one of ours or of an installed library's."""
    name, colon, _ = source.partition("?")[0].partition(":")
    return bool(colon) and name not in ("torchvision", "timm", "parquet", "folder")


def original_of(run: Path, given: str | None) -> tuple[nn.Module, Any]:
    """Return the network that a run started from, in structure (its weights do not matter), and its example inputs.

    Raises:
        ConfigError, ModelError: see `source_of` and `resolve_model`.
        RunDamaged: the run's configuration cannot be read.
    """
    from netadapt.adaptation.preparation import structure_of
    from netadapt.models import resolve_model

    config = read_config(run)
    model, example_inputs = resolve_model(source_of(run, config, given))
    return structure_of(config, model, example_inputs, None), example_inputs


def variant_at(family: Family, at: str) -> Variant:
    """Return the network of a family that ``--at`` names.

    Args:
        family: of a run.
        at: a budget, ``best``, ``initial`` or a variant's name.

    Raises:
        BudgetError: it cannot be read.
        BudgetUnreachable: no network meets it.
    """
    words = {"best": family.best, "initial": family.initial} | {variant.name: variant for variant in family}
    if at in words:
        return words[at]
    try:
        return family.at(at)
    except BudgetError as error:
        raise BudgetError(f"{error}\n--at takes a budget, best, initial, or one of: {', '.join(words)}") from error
