"""``netadapt estimator``: build what predicts latency on a platform, look at it, and check it on unseen networks."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt.cli.estimating import on_platform, stored, with_estimator
from netadapt.cli.options import Blocks, Exact, Json
from netadapt.cli.output import result, result_json, seconds

if TYPE_CHECKING:
    from netadapt.network import Network
    from netadapt.platforms import Platform
    from netadapt.resources.estimator import Estimator
    from netadapt.resources.meter import Meter

app = typer.Typer(help="Build, show or verify an estimator.", no_args_is_help=True, rich_markup_mode=None)


class Kind(StrEnum):
    """Which estimator."""

    network = "network"
    table = "table"


_Platform = Annotated[str, typer.Argument(metavar="PLATFORM", help="Where it is measured.")]
_Model = Annotated[str, typer.Option("--model", "-m", help="MODEL whose widths it is for.")]
_Networks = Annotated[
    int | None,
    typer.Option(
        min=8,
        help="Networks measured to fit it; by default 64, or 40 where each takes many seconds before it can be timed. "
        "Those on disk are not measured again.",
    ),
]
_Kind = Annotated[Kind, typer.Option(help="Fitted to whole networks, or the paper's layer-wise table.")]


@app.command()
def build(
    platform: _Platform,
    model: _Model,
    networks: _Networks = None,
    kind: _Kind = Kind.network,
    exact: Exact = True,
    blocks: Blocks = False,
    as_json: Json = False,
) -> None:
    """Measure networks and fit.

    What is measured stays on disk for every later run.
    """
    _print(with_estimator(platform, model, exact, blocks, networks, kind.value, _facts), as_json)


@app.command()
def show(
    platform: _Platform, model: _Model, exact: Exact = True, blocks: Blocks = False, as_json: Json = False
) -> None:
    """Say what has been measured so far."""
    from netadapt.files import cache_folder

    def facts(network: Network, opened: Platform) -> dict[str, Any]:
        return {"platform": opened.name, "cache": str(cache_folder())} | stored(network, opened)

    _print(on_platform(platform, model, exact, blocks, facts), as_json)


@app.command()
def verify(
    platform: _Platform,
    model: _Model,
    networks: _Networks = None,
    kind: _Kind = Kind.network,
    unseen: Annotated[int, typer.Option(min=2, help="Networks that it is judged on.")] = 40,
    exact: Exact = True,
    blocks: Blocks = False,
    as_json: Json = False,
) -> None:
    """Judge it on networks that it has not seen."""
    from netadapt.resources.verify import verify as compare

    def facts(network: Network, opened: Platform, meter: Meter, estimator: Estimator) -> dict[str, Any]:
        return compare(network, opened, estimator, unseen, meter=meter)

    told = with_estimator(platform, model, exact, blocks, networks, kind.value, facts)
    if not as_json:
        told.pop("pairs")
    _print(told, as_json)


def _facts(network: Network, platform: Platform, meter: Meter, estimator: Estimator) -> dict[str, Any]:
    return {
        "original_ms": meter.initial["latency"],
        "networks_measured": getattr(estimator, "networks_measured", None),
        "build_seconds": getattr(estimator, "build_seconds", None),
        "left_out_error": getattr(estimator, "left_out_error", None),
    }


def _print(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        result_json(told)
        return
    for key, value in told.items():
        result(f"{key.replace('_', ' '):<18} {_shown(key, value)}")


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "not known"
    if key.endswith("seconds"):
        return seconds(value)
    if key in ("mean_error", "worst_error", "bias", "repeatability", "left_out_error"):
        return f"{100 * value:.2f} %"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
