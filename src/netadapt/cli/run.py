"""``netadapt run``: adapt a network as a configuration says; the same command again resumes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt.cli.options import Json, Overrides
from netadapt.cli.output import note, result, result_json
from netadapt.cli.running import opened, settings_of
from netadapt.errors import BudgetUnreachable

if TYPE_CHECKING:
    from netadapt.runs.settings import RunConfig

_CONFIG = Path("netadapt.toml")


def command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Written by: netadapt init")] = _CONFIG,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run folder, instead of run.folder.")] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and measure everything, say what would be done, train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Adapt a network to a budget, or resume.

    The same command goes on with an interrupted run; what is done is not done again.
    """
    settings = settings_of(config, overrides, out)
    folder = Path(settings.run.folder)
    if dry_run:
        _plan(settings, as_json)
        return
    try:
        with opened(settings) as adaptation:
            adaptation.finish()
    except BudgetUnreachable:
        _show(folder, as_json)
        raise
    except KeyboardInterrupt:
        note(f"{folder} is safe; the same command goes on from there")
        raise
    if not _show(folder, as_json):
        raise BudgetUnreachable(
            f"The trained network measures above the budget. The family is kept: netadapt status {folder}. "
            "Run again with a slightly lower budget in another folder."
        )


def _plan(settings: RunConfig, as_json: bool) -> None:
    """Print what a run would start from and how many steps it would take."""
    from netadapt.report import table

    with opened(settings) as adaptation:
        plan = adaptation.plan()
    if as_json:
        result_json(plan)
        return
    noise = ", ".join(f"{name} {100 * share:.2g} %" for name, share in plan["noise_by_resource"].items())
    result(f"noise of a measurement of {plan['sessions']} sessions: {noise}")
    headers = ["resource", "original", "budget", "floor", "first step", "steps"]
    result(table(headers, [_row(name, plan) for name in plan["budget"]]))


def _row(name: str, plan: dict[str, Any]) -> list[str]:
    from netadapt.budget import format_quantity

    quantities = [plan[key][name] for key in ("initial", "budget", "floor", "first_step")]
    return [name, *(format_quantity(value, name) for value in quantities), f"about {plan['iterations'][name]}"]


def _show(folder: Path, as_json: bool) -> bool:
    """Print what the run came to and return whether the budget is met."""
    from netadapt.cli.summary import summary
    from netadapt.runs.status import status

    told = status(folder)
    if as_json:
        result_json(told)
    else:
        result(summary(folder))
    return bool(told["met"])
