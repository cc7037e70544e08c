"""``netadapt measure``: the latency of networks on one platform, interleaved where there are several."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt.cli.options import PLATFORM, Json, Platform
from netadapt.cli.output import counting, result, result_json
from netadapt.errors import MeasurementUnusable, PlatformError

if TYPE_CHECKING:
    from netadapt.platforms import Artifact, Measurement
    from netadapt.platforms import Platform as AnyPlatform


def command(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="MODEL|FILE...", help="Networks, or files that the platform loads, such as .onnx."),
    ],
    platform: Platform = PLATFORM,
    sessions: Annotated[
        int | None, typer.Option(min=1, help="Fresh sessions per network; 5 for one network, 11 to compare several.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Seconds per session.")] = 0.3,
    as_json: Json = False,
) -> None:
    """Measure latency of networks or files.

    Several are measured in one window of time, interleaved; each is compared with the first.
    """
    found = _measure(targets, platform, sessions or (5 if len(targets) == 1 else 11), seconds)
    rows = [
        asdict(measurement) | {"target": target, "ratio": measurement.sentinel_ratio}
        for target, measurement in zip(targets, found, strict=True)
    ]
    for row, measurement in zip(rows[1:], found[1:], strict=True):
        row["comparison"] = _comparison(found[0], measurement, (targets[0], row["target"]))
    if as_json:
        result_json(rows[0] | {"networks": rows})
    else:
        result(_text(rows))
    unusable = [row["target"] for row in rows if row["verdict"] == "unusable"]
    if unusable:
        raise MeasurementUnusable(
            f"{platform}: the sessions of {', '.join(unusable)} differ by more than 25 %. "
            "Stop other work on the device, let it cool, or fix its clock, and repeat."
        )


def _measure(targets: list[str], name: str, sessions: int, seconds: float) -> list[Measurement]:
    """Compile all targets first, then measure them in one window."""
    from netadapt.platforms import StopwatchProtocol, resolve_platform
    from netadapt.platforms.stopwatch import measure

    protocol = StopwatchProtocol(sessions=sessions, seconds=seconds)
    platform = resolve_platform(name)
    try:
        with tempfile.TemporaryDirectory(prefix="netadapt-") as folder, counting("measuring") as progress:
            artifacts = [_artifact(target, platform, Path(folder)) for target in targets]
            sentinel = artifacts[0] if len(artifacts) > 1 else None
            return measure(platform, artifacts, sentinel=sentinel, protocol=protocol, progress=progress)
    finally:
        platform.close()


def _artifact(target: str, platform: AnyPlatform, folder: Path) -> Artifact:
    """Return the file of a target: itself, or what the platform makes of the network that it names."""
    from netadapt.models import resolve_model
    from netadapt.platforms.artifacts import artifact_of

    path = Path(target).expanduser()
    if path.is_file():
        return artifact_of(path)
    if path.suffix == ".onnx":
        raise PlatformError(f"{path} does not exist; give an ONNX file, or a MODEL (see: netadapt ls models).")
    return platform.compile(*resolve_model(target), folder)


def _comparison(first: Measurement, second: Measurement, names: tuple[str, str]) -> dict[str, Any]:
    """Return what tells two networks apart, for JSON."""
    from netadapt.platforms.comparison import compare

    found = compare(first, second, names)
    return asdict(found) | {"differs": found.differs}


def _text(rows: list[dict[str, Any]]) -> str:
    from netadapt.report.table import table

    cells = [
        [
            row["target"],
            f"{row['median_ms']:.4g} ± {row['half_width_ms']:.2g}",
            f"{row['iqr_ms']:.2g}",
            f"{row['p90_ms']:.4g}",
            f"{row['ratio']:.3f}",
            str(row["count"]),
            row["verdict"],
        ]
        for row in rows
    ]
    headers = ["network", "median ms", "IQR ms", "p90 ms", "ratio", "slices", "verdict"]
    resources = [
        f"{row['target']}: {', '.join(_quantity(row[key], *what) for key, what in _OTHERS.items() if row[key])}"
        for row in rows
        if any(row[key] for key in _OTHERS)
    ]
    verdicts = [row["comparison"]["sentence"] for row in rows[1:]]
    return "\n".join([f"platform {rows[0]['platform']}", table(headers, cells), *resources, *verdicts])


def _quantity(value: float, name: str, unit: str) -> str:
    return f"{name} {value:.3g} {unit}"


_OTHERS = {"energy_mj": ("energy", "mJ"), "memory_mb": ("memory", "MB"), "size_mb": ("file", "MB")}
