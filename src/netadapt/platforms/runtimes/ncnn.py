"""ncnn: ``.param`` and ``.bin`` files made by pnnx from ONNX, for processors and, through Vulkan, mobile GPUs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import store_several
from netadapt.platforms.base import Artifact
from netadapt.platforms.runtimes.onnx_based import OnnxBased

if TYPE_CHECKING:
    from torch import nn

_ENGINE = Path(__file__).parents[1] / "on_device/engine_ncnn.py"
_LIMIT_S = 600.0  # for a conversion or one inference; a large network takes a few seconds
# How pnnx's own script for the network hands over inputs and takes outputs: the only place that tells batch axes.
_INPUT = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\(\w+\.numpy\(\)(?:, batch_index=(\d+))?\)')
_OUTPUT = re.compile(r"\(out\d+\.numpy\((?:batch_index=(\d+))?\)")


class Ncnn(OnnxBased):
    """Writes ncnn files.

    Args:
        vulkan: run on the first Vulkan device, in float16 as ncnn does there; otherwise on the processor in float32.
    """

    name = "ncnn"
    description = "ncnn on the processor, or on a Vulkan device with vulkan=true"
    requires: Mapping[str, str] = {"ncnn": "netadapt[ncnn]", "pnnx": "netadapt[ncnn]"}
    distributions = ("ncnn", "pnnx")
    form = 1

    def __init__(self, *, vulkan: bool = False) -> None:
        super().__init__()
        self.options: Mapping[str, str | int] = {"vulkan": 1} if vulkan else {}
        self.dtype = "float16" if vulkan else "float32"

    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Convert an ONNX file with pnnx and write what ncnn loads.

        Raises:
            PlatformError: pnnx fails, or leaves an operation that ncnn does not have.
        """
        shapes = _input_shapes(onnx_file)
        param, weights, script = _convert(onnx_file)
        _check_operations(param)
        given, taken = _INPUT.findall(script), _OUTPUT.findall(script)
        if len(given) != len(shapes) or not taken:
            raise PlatformError(
                f"pnnx kept {len(given)} of {len(shapes)} inputs and {len(taken)} outputs; an input that the network "
                "does not use must go, and this version of pnnx may be too new for netadapt."
            )
        inputs = [
            {"name": name, "shape": shape, "batch_axis": int(axis) if axis else None}
            for (name, axis), shape in zip(given, shapes, strict=True)
        ]
        facts = {"inputs": inputs, "output_batch_axes": [int(axis) if axis else None for axis in taken]}
        return store_several({".param": param.encode(), ".bin": weights}, folder, facts)

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the files of ``model`` as it stands and compare what they compute with it.

        Raises:
            PlatformError: the network cannot be converted, or its files do not compute what it does.
        """
        artifact = super().compile(model, example_inputs, folder)
        self._check(artifact, model, example_inputs)
        return artifact

    def _check(self, artifact: Artifact, model: nn.Module, example_inputs: Any) -> None:
        import torch

        from netadapt.export.onnx import compare, flat_copy

        flat = flat_copy(model, example_inputs)
        with torch.no_grad():
            expected = [output.numpy() for output in flat(*flat.tensors)]
        # In float32 on the processor, whatever the device: what the files say, not how a device rounds.
        compare(run_once(artifact, {}, [tensor.numpy() for tensor in flat.tensors]), expected)


def _input_shapes(onnx_file: bytes) -> list[list[int]]:
    """Return the fixed shapes of a file's inputs.

    Raises:
        PlatformError: an input is not float32.
    """
    import onnx

    shapes = []
    for entry in onnx.load_from_string(onnx_file).graph.input:
        if entry.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise PlatformError(f"ncnn takes float32 inputs only, and {entry.name!r} is of another type.")
        shapes.append([dimension.dim_value for dimension in entry.type.tensor_type.shape.dim])
    return shapes


def _convert(onnx_file: bytes) -> tuple[str, bytes, str]:
    """Return pnnx's ``.param``, ``.bin`` and the script that it writes, which is read and never run."""
    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise PlatformError("pnnx is not installed; run: pip install netadapt[ncnn]")
    with tempfile.TemporaryDirectory(prefix="netadapt-") as name:
        folder = Path(name)
        (folder / "n.onnx").write_bytes(onnx_file)
        command = [str(Path(spec.origin).with_name("pnnx")), "n.onnx", "fp16=0"]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PlatformError(f"pnnx, which makes ncnn's files, did not run: {error}") from error
        tail = (done.stdout + done.stderr).decode(errors="replace")[-1000:].strip()
        if done.returncode != 0:
            raise PlatformError(f"pnnx cannot convert this network (status {done.returncode}).\n{tail}")
        try:
            return (
                (folder / "n.ncnn.param").read_text(),
                (folder / "n.ncnn.bin").read_bytes(),
                (folder / "n_ncnn.py").read_text(),
            )
        except (OSError, UnicodeDecodeError) as error:
            raise PlatformError(f"pnnx wrote no files for ncnn: {error}\n{tail}") from error


def _check_operations(param: str) -> None:
    """Refuse a graph with operations that pnnx left in its own language (``F.grid_sample``, ``aten::sort``)."""
    kinds = {line.split()[0] for line in param.splitlines()[2:] if line.strip()}
    if foreign := sorted(kind for kind in kinds if not kind.isalnum()):
        raise PlatformError(f"ncnn has no operation for {', '.join(foreign)}; replace it in the network.")


def run_once(artifact: Artifact, options: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run files once, on one thread in a process of its own.

    Args:
        artifact: as `Ncnn.store` returns it.
        options: of the runtime.
        inputs: in the order of the network's inputs.

    Raises:
        PlatformError: ncnn cannot run the files, or not within ten minutes.
    """
    names = [entry["name"] for entry in json.loads(artifact.path.read_bytes())["inputs"]]
    with tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
        given, taken = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        arrays = {name: np.ascontiguousarray(value) for name, value in zip(names, inputs, strict=True)}
        np.savez(given, allow_pickle=False, **arrays)
        command = [sys.executable, "-P", str(_ENGINE), str(artifact.path), json.dumps(dict(options))]
        try:
            done = subprocess.run(
                [*command, str(given), str(taken)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PlatformError(
                f"ncnn did not run this network once within {_LIMIT_S:g} s; use a smaller one."
            ) from error
        if done.returncode != 0:
            tail = done.stderr.decode(errors="replace")[-1000:].strip()
            raise PlatformError(f"ncnn cannot run this network (status {done.returncode}).\n{tail}")
        with np.load(taken, allow_pickle=False) as outputs:
            return [outputs[f"arr_{i}"] for i in range(len(outputs.files))]
