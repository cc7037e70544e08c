"""ncnn's side of a session: loads a manifest with its ``.param`` and ``.bin`` on the processor or a Vulkan device.

Started as a program it runs a network once on given inputs, for `runtimes/ncnn.py` to check: in a process of its own,
because a file that ncnn cannot run may end the process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from session_timing import random_array

# y = Relu(x) on one float: what the runtime itself costs in memory is measured with it.
EMPTY_PARAM = "7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0\n"
EMPTY_INPUTS = [{"name": "in0", "shape": [1, 1], "batch_axis": 0}]
NO_BATCH = 233  # what ncnn writes for a matrix without a batch


def version() -> str:
    """Import the runtime and return its version."""
    import ncnn.ncnn

    return str(ncnn.__version__)


def load(path: str | None, threads: int, options: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    """Load a network and return it with the description of its inputs.

    Args:
        path: of a manifest; ``None`` for the smallest network.
        threads: of one inference.
        options: ``vulkan``: whether to run on the first Vulkan device.

    Raises:
        ValueError: there is no Vulkan device, or ncnn cannot load the files.
    """
    import ncnn.ncnn as ncnn

    vulkan = bool(options.get("vulkan"))
    if vulkan and ncnn.get_gpu_count() < 1:
        raise ValueError("there is no Vulkan device; install its driver (the command vulkaninfo lists devices)")
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = vulkan
    if not vulkan:
        # Where a processor could do less, ncnn would silently: float32 is what the network was trained in.
        for option in (
            "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"
        ):  # fmt: skip
            if hasattr(net.opt, option):
                setattr(net.opt, option, False)
    if path is None:
        failed = net.load_param_mem(EMPTY_PARAM)
        net.load_model_mem("")  # it has no weights, but a Vulkan device prepares its layers here
        return _loaded(net, failed, "its smallest network"), EMPTY_INPUTS
    manifest = json.loads(Path(path).read_bytes())
    if any(Path(name).name != name for name in manifest["files"].values()):
        raise ValueError(f"{path} names files that do not lie beside it")
    files = {suffix: str(Path(path).with_name(name)) for suffix, name in manifest["files"].items()}
    failed = net.load_param(files[".param"]) or net.load_model(files[".bin"])
    return _loaded(net, failed, path), manifest["inputs"]


def _loaded(net: Any, failed: int, what: str) -> Any:
    if failed:
        raise ValueError(f"ncnn cannot load {what}")
    return net


def matrix(array: Any, batch_axis: int | None) -> Any:
    """Return an array as ncnn's matrix, with a copy of the values: the array's own may be gone while it is read."""
    import ncnn.ncnn as ncnn

    return ncnn.Mat(array, batch_index=NO_BATCH if batch_axis is None else batch_axis).clone()


def infer(net: Any, feeds: Sequence[tuple[str, Any]]) -> list[Any]:
    """Run the network on matrices by input name and return its output matrices.

    Raises:
        ValueError: an input is not taken, or an output cannot be computed.
    """
    extractor = net.create_extractor()
    for name, value in feeds:
        if extractor.input(name, value):
            raise ValueError(f"ncnn has no input {name!r}")
    outputs = []
    for name in net.output_names():
        failed, output = extractor.extract(name)
        if failed:
            raise ValueError(f"ncnn cannot compute {name!r}: status {failed}")
        outputs.append(output)
    return outputs


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file as most users deploy it: float32 on the processor, ncnn's defaults on a Vulkan device.

    Raises:
        ValueError: there is no Vulkan device, ncnn cannot load the files, or they do not run.
    """
    net, inputs = load(path, threads, options)
    arrays = [random_array(entry["shape"], "float32") for entry in inputs]
    feeds = [(e["name"], matrix(a, e["batch_axis"])) for e, a in zip(inputs, arrays)]
    return lambda: infer(net, feeds)


def main() -> None:
    """Run the manifest ``argv[1]`` with options ``argv[2]`` on the inputs in ``argv[3]``; outputs to ``argv[4]``."""
    import numpy as np

    net, inputs = load(sys.argv[1], 1, json.loads(sys.argv[2]))
    with np.load(sys.argv[3], allow_pickle=False) as given:
        feeds = [(e["name"], matrix(given[e["name"]], e["batch_axis"])) for e in inputs]
    axes = json.loads(Path(sys.argv[1]).read_bytes())["output_batch_axes"]
    outputs = [
        output.numpy(batch_index=NO_BATCH if axis is None else axis) for output, axis in zip(infer(net, feeds), axes)
    ]
    np.savez(sys.argv[4], *outputs)


if __name__ == "__main__":
    main()
