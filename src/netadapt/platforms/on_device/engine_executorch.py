"""executorch's side of a session: loads a program with its XNNPACK parts."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any

from session_timing import random_array

# y = Relu(x) on one float, compressed: what the runtime itself costs in memory is measured with it.
EMPTY_MODEL = zlib.decompress(base64.b85decode(
    "c-qBO%}T>S5T3-?#u_BXP<kj5LJuB_q@Id+5JB)Do;(z)Xl)`ELku-VrHCGU03XFC@EJUK@aO~h493~bB;CZHljw%o|M}+I$;_+)z~*ji#XE"
    "5v3+Ji=yxr1xFG1FHs9|s7sDTO!j%)?cK-m`L<vos>x}XX&-P4#2uBqUd$5;3_Y3!)ZXH{52Z3|a5!G4u6+bAK)6UsB=K-l%E#CF;a3;4|5V"
    ";sjCaWm=c0r!ZSG>2U$2*O_fbOXf;+=;%<XO)aog>cqMr0mTa%+i~6a*4`U3iT77Qh}o+?8)>7g*dW50@DT<FwZTi<Vl0xQcHbUDsg@#!jcJ"
    "G7VuSMKSO*{ToV>P;p!qTBEKRJ{YTuyH!7b4+@Xw7x~--)wxg@ivsW$qXf*JnL2$ktjY8kEo0i=_3nK3_Vu!)V_xaYzz;}mUaBv=aeLU!9`s"
    "_wdC*3G&>|f&t@4s#TPx*hz+a2_yg4yoA{k;pIj6OI%8(#E=F8pWfY&p&%u<GMV`HBF1x3lB4SPigv3~3mDW)hzmfvg6!QR5BAEs8%@51N!C"
    "VveRUT%j{4<eMbK@Lra;bLc0PbU{k&8fd@7xg>Sb<axogWzrL|#5@qOOsc6VlFn<}XB@eJlfFsA`(^ToM!DF?)tpLJU$COz0OV@`6Q}SmJ^("
    "J~wKo"
))  # fmt: skip
# numbers of PyTorch's types in the file
TYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}


def version() -> str:
    """Import the runtime and return its version."""
    from importlib import metadata

    _bindings()  # what is forked later finds it imported

    return metadata.version("executorch")


def _bindings() -> Any:
    """Return the runtime itself; the module around it would import the whole converter."""
    import numpy  # noqa: F401
    import torch  # noqa: F401  the runtime is linked against its libraries
    from executorch.extension.pybindings import _C

    return _C


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file as most users deploy it: ``threads`` threads, defaults elsewhere.

    Raises:
        RuntimeError: the file is no program, or needs operators that the runtime lacks.
        ValueError: an input has a type that is no plain number.
    """
    import torch

    bindings = _bindings()
    # Made anew in this process: the threads of a pool do not survive a fork.
    bindings._unsafe_reset_threadpool(threads)
    if bindings._threadpool_get_thread_count() != threads:
        raise RuntimeError(f"executorch does not run with {threads} threads")
    # A buffer is read later too, while the module lives: `EMPTY_MODEL` stays.
    module = bindings._load_for_executorch(path) if path else bindings._load_for_executorch_from_buffer(EMPTY_MODEL)
    meta = module.method_meta("forward")
    inputs = [torch.from_numpy(_input(meta.input_tensor_meta(i))) for i in range(meta.num_inputs())]
    return lambda: module.forward(inputs, clone_outputs=False)  # as in C++, where outputs are not copied


def _input(entry: Any) -> Any:
    if entry.dtype() not in TYPES:
        raise ValueError(f"an input has the type number {entry.dtype()}; allowed: {', '.join(TYPES.values())}")
    return random_array(list(entry.sizes()), TYPES[entry.dtype()])
