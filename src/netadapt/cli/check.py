"""``netadapt check``: what can be removed, how noisy this device is, how long a run takes; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from netadapt.cli.options import PLATFORM, Blocks, Exact, Json, Model, Platform
from netadapt.cli.output import result, result_json, working
from netadapt.errors import MeasurementUnusable

if TYPE_CHECKING:
    from netadapt.check import Findings


def command(
    model: Model,
    platform: Platform = PLATFORM,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", help="digits | parquet:DIR | folder:DIR | file.py:function; for the forecast."),
    ] = None,
    budget: Annotated[str, typer.Option("--budget", "-b", help="That the forecast is for.")] = "50%",
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", help="Module whose output channels stay, e.g. head or 'blocks.0.*'; repeatable."),
    ] = None,
    exact: Exact = True,
    blocks: Blocks = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sessions, no forecast.")] = False,
    as_json: Json = False,
) -> None:
    """Look before training: what can go, noise, time.

    Groups, pinned layers with the reason and the source line, latency with its noise, the floor, the smallest honest
    step, which budgets can be reached, what uniform width would give, and how long a run takes. Nothing is trained.
    """
    from netadapt.cli.findings import text

    findings, name = _check(model, platform, task, budget, keep or [], exact, blocks, quick)
    if as_json:
        result_json(findings.to_json() | {"source": model, "platform": name})
    else:
        result(text(findings, model, name))
    if findings.measurement.verdict == "unusable":
        raise MeasurementUnusable(
            f"{name} is too noisy for any decision: sessions of one network differ by more than 25 %. "
            "Stop other work on the device, let it cool, or fix its clock, and repeat."
        )


def _check(
    source: str,
    platform_name: str,
    task_name: str | None,
    budget: str,
    keep: list[str],
    exact: bool,
    blocks: bool,
    quick: bool,
) -> tuple[Findings, str]:
    from netadapt.check import check
    from netadapt.models import resolve_model
    from netadapt.platforms import resolve_platform
    from netadapt.training.datasets import resolve_task
    from netadapt.training.prepare import check_fit

    platform = resolve_platform(platform_name)
    try:
        with working(quiet=True) as tell:
            model, example_inputs = resolve_model(source)
            task = None
            if task_name is not None:
                shape = tuple(getattr(example_inputs, "shape", ()))
                task = resolve_task(task_name, resolution=int(shape[-1]) if len(shape) == 4 else None)
                check_fit(model, example_inputs, task)
            findings = check(
                model,
                example_inputs,
                platform,
                task=task,
                budget=budget,
                keep=keep,
                exact=exact,
                blocks=blocks,
                quick=quick,
                tell=tell,
            )
        return findings, platform.name
    finally:
        platform.close()
