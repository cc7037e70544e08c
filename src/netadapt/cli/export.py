"""``netadapt export``: a network of a run as the files that a runtime loads."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netadapt.cli.options import PLATFORM, At, Json, OwnModel, Run
from netadapt.cli.originals import original_of, read_config, variant_at
from netadapt.cli.output import result, result_json
from netadapt.errors import ConfigError

if TYPE_CHECKING:
    from netadapt.family import Variant
    from netadapt.platforms import Measurement


class Format(StrEnum):
    """What can be written."""

    onnx = "onnx"
    safetensors = "safetensors"


def command(
    run: Run,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that is written; it may not hold anything yet.")],
    at: At = "best",
    form: Annotated[Format, typer.Option("--format", "-f", help="What is written.")] = Format.onnx,
    model: OwnModel = None,
    measure: Annotated[bool, typer.Option(help="Measure the exported file again.")] = True,
    as_json: Json = False,
) -> None:
    """Export a network of a run.

    An ONNX file is compared with PyTorch by values and measured again.
    """
    from netadapt.family import Family

    variant = variant_at(Family.read(run), at)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not an empty folder; give another --out.")
    written = _onnx(run, variant, model, out, measure) if form is Format.onnx else _safetensors(variant, out)
    told: dict[str, Any] = {"variant": variant.name, "tuned": variant.tuned, "format": form.value} | written
    if as_json:
        result_json(told)
        return
    result(f"{variant}\n{told['path']}")
    if form is Format.safetensors:
        result(f'load:      netadapt.load("{out}", model=...)   or, without netadapt, {out}/load.py')
        return
    difference, scale = told["max_abs_difference"], told["scale"]
    result(f"numerics:  largest difference from PyTorch {difference:.2g} (outputs up to {scale:.3g})")
    if told["measurement"]:
        m = told["measurement"]
        result(f"latency:   {m['median_ms']:.4g} ± {m['half_width_ms']:.2g} ms on {m['platform']}, {m['verdict']}")


def _safetensors(variant: Variant, out: Path) -> dict[str, Any]:
    from netadapt.export import copy_variant

    return {"path": str(copy_variant(variant.folder, out))}


def _onnx(run: Path, variant: Variant, model: str | None, out: Path, measured: bool) -> dict[str, Any]:
    """Write, compare with PyTorch on random inputs, measure, and keep the measurement beside the file."""
    import json

    from netadapt.cli.numerics import largest_difference
    from netadapt.export import export_onnx
    from netadapt.files import write_atomic

    original, example_inputs = original_of(run, model)
    network = variant.load(original)
    path = export_onnx(network, example_inputs, out / f"{run.resolve().name}-{variant.name}.onnx")
    difference, scale = largest_difference(path, network, example_inputs)
    measurement = asdict(_measure(run, path)) if measured else None
    if measurement is not None:
        write_atomic(out / "measurement.json", (json.dumps(measurement, indent=1) + "\n").encode())
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "max_abs_difference": difference,
        "scale": scale,
        "measurement": measurement,
    }


def _measure(run: Path, path: Path) -> Measurement:
    """Measure an ONNX file where the run was measured, or on the default platform if that loads no ONNX."""
    from netadapt.platforms import measure_files

    name = read_config(run).platform.name
    return measure_files([path], name if "onnxruntime" in name else PLATFORM)[0]
