"""``netadapt explain``: the time of every layer before and after, and why it is not faster."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt.cli.options import PLATFORM, At, Json, OwnModel
from netadapt.cli.originals import original_of, read_config, variant_at
from netadapt.cli.output import counting, note, result, result_json
from netadapt.errors import ConfigError

if TYPE_CHECKING:
    from netadapt.explain import Explanation
    from netadapt.family import Variant
    from netadapt.network import Network
    from netadapt.platforms import Platform as AnyPlatform
    from netadapt.resources.estimator import Estimator
    from netadapt.runs.settings import RunConfig


def command(
    context: typer.Context,
    what: Annotated[list[Path], typer.Argument(metavar="RUN|A.onnx B.onnx", help="A run folder, or two ONNX files.")],
    at: At = "best",
    model: OwnModel = None,
    platform: Annotated[
        str | None,
        typer.Option("--platform", "-p", help="Where to look; by default where the run was measured, or onnxruntime."),
    ] = None,
    profiles: Annotated[int, typer.Option(min=1, help="Fresh sessions of each network.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds per session.")] = 0.2,
    as_json: Json = False,
) -> None:
    """Show time per layer before and after, and why it is not faster.

    Times come from the runtime's own profiler, or from the run's estimator where there is none. What is found also
    stands in the run's report from then on. Of two files the operations of the same name are compared.
    """
    if not seconds > 0:
        raise ConfigError(f"--seconds {seconds:g}: allowed are seconds above 0.")
    if _is_run(what):
        found = _of_run(what[0], at, model, platform, profiles, seconds)
    else:
        _refuse_options_of_runs(context)
        found = _of_files(what, platform, profiles, seconds)
    if as_json:
        from netadapt.report.explanation import told

        result_json(told(found))
        return
    result(_text(found))


def _is_run(what: list[Path]) -> bool:
    """Tell a run folder from two files, and refuse all else."""
    given = " ".join(map(str, what))
    if len(what) == 1 and not what[0].is_dir() and (what[0].is_file() or what[0].suffix.lower() == ".onnx"):
        raise ConfigError(
            f"explain {given} has nothing to compare the file with; give two ONNX files, or a run folder."
        )
    if len(what) > 2 or (len(what) == 2 and any(path.is_dir() for path in what)):
        raise ConfigError(f"explain {given}: give one run folder, or two ONNX files.")
    return len(what) == 1


def _refuse_options_of_runs(context: typer.Context) -> None:
    for name, value in (("at", context.params["at"]), ("model", context.params["model"])):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ConfigError(
                f"--{name} {value} is for a run folder; leave it out, two files are compared as they are."
            )


def _of_files(files: list[Path], platform: str | None, profiles: int, seconds: float) -> Explanation:
    from netadapt.explain import explain_files
    from netadapt.platforms import resolve_platform

    with closing(resolve_platform(platform or PLATFORM)) as opened, counting("profiling") as progress:
        return explain_files(files, opened, repeats=profiles, seconds=seconds, progress=progress)


def _of_run(run: Path, at: str, model: str | None, platform: str | None, profiles: int, seconds: float) -> Explanation:
    from netadapt.family import Family
    from netadapt.network import trace

    family, config = Family.read(run), read_config(run)
    variant = variant_at(family, at)
    network = trace(*original_of(run, model), **config.model.tracing)
    if variant.widths.keys() != network.widths.keys():
        raise ConfigError(f"{run} is of another network than this MODEL: their channel groups differ.")
    found = _explain(network, run, variant, config, platform or config.platform.name, profiles, seconds)
    try:
        found.write(run)
    except OSError as error:
        note(f"the report will not show this: {error.filename}: {error.strerror}")
    return found


def _explain(
    network: Network, run: Path, variant: Variant, config: RunConfig, platform: str, profiles: int, seconds: float
) -> Explanation:
    from netadapt.explain import explain
    from netadapt.platforms import resolve_platform

    opened = resolve_platform(platform)
    try:
        with counting("profiling") as progress:
            return explain(
                network,
                variant.widths,
                opened,
                lambda: _estimator(network, opened, config, run),
                variant=variant.name,
                repeats=profiles,
                seconds=seconds,
                progress=progress,
            )
    finally:
        opened.close()


def _estimator(network: Network, platform: AnyPlatform, config: RunConfig, run: Path) -> Estimator:
    """Return the run's latency estimator; its measurements are on disk where the run was."""
    from netadapt.resources.build import build_estimators
    from netadapt.resources.meter import Meter
    from netadapt.runs.state import read_state

    start = read_state(run).start or {}
    told = start.get("initial") or {}
    known = told.get("resources") or {}
    here = platform.name == config.platform.name and all(name in known for name in platform.resources)
    initial = {name: known[name] for name in platform.resources} if here else None
    meter = Meter(network, platform, initial=initial, yardsticks_ms=told.get("yardsticks_ms") if here else None)
    search = config.search
    with counting("measuring networks") as progress:
        estimators = build_estimators(
            network,
            platform,
            ["latency"],
            kind=search.estimator,
            networks=search.networks,
            meter=meter,
            progress=progress,
        )
    return estimators["latency"]


def _text(found: Explanation) -> str:
    """Return a headline, the table, what adds up to what, and the reasons."""
    from netadapt.report.explanation import HEADERS, headline, reasons, rows, totals
    from netadapt.report.table import table

    parts: list[Any] = [headline(found), f"time by layer from {found.source}", "", table(HEADERS, rows(found)), ""]
    parts += [table(["", "before ms", "after ms"], totals(found)), ""]
    return "\n".join([*parts, *reasons(found)])
