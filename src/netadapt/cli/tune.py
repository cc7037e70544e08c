"""``netadapt tune``: the long-term fine-tune of any network of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netadapt.cli.options import At, Json, Overrides, Run
from netadapt.cli.originals import is_code, read_config, variant_at
from netadapt.cli.output import note, result, result_json
from netadapt.cli.running import opened, settings_of
from netadapt.errors import ConfigError

if TYPE_CHECKING:
    from netadapt.runs.settings import RunConfig


def command(
    run: Run,
    at: At,
    config: Annotated[
        Path | None,
        typer.Option(
            help="The configuration that the run was started with. Needed where its network or task is a file of "
            "yours: code that a run folder names is never executed by itself."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Fine-tune any network of a run long-term.

    On training and selection split, as the run does with its last network; the test split is read once, at the end.
    """
    from netadapt.family import Family

    name = variant_at(Family.read(run), at).name
    try:
        with opened(_settings(run, config, overrides)) as adaptation:
            variant = adaptation.tune(name)
    except KeyboardInterrupt:
        note(f"{run} is safe; the same command goes on from there")
        raise
    if as_json:
        result_json(variant.to_json())
    else:
        result(f"{variant}\n{variant.folder}")


def _settings(run: Path, config: Path | None, overrides: list[str] | None) -> RunConfig:
    """Return the user's configuration, or the run's own where it names no code.

    Raises:
        ConfigError: it does.
    """
    if config is not None:
        return settings_of(config, overrides, run)
    settings = read_config(run)
    for source in (settings.model.source, settings.task.source):
        if source.startswith("python:"):
            raise ConfigError(
                f"{run} was started from Python ({source}): tune there, with netadapt.Adaptation(...).tune(...)."
            )
        if is_code(source):
            raise ConfigError(
                f'{run} needs "{source}". Code that a run folder names is not executed by itself; give the '
                "configuration that you started the run with: --config FILE"
            )
    return settings_of(run / "config.toml", overrides, run)
