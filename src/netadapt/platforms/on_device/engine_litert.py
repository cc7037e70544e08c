"""litert's side of a session: loads a TFLite file with XNNPACK, as the interpreter does by default."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from typing import Any

from session_timing import random_array

# y = Relu(x) on one float, compressed: what the runtime itself costs in memory is measured with it.
EMPTY_MODEL = zlib.decompress(base64.b85decode(
    "c-n1IJxc>Y5S`OAE*j!Nj%X3^N{bK_73>vJh>h4Er&;4+vKQ|5Qur$@Ec_K>VPS2RA0@;$n>h{Y!ee&d&di&SHW6K&_Vz=H$R|a03Md4(MQv"
    "x7fg_*;^gO~p(W|^yfafKmC*TnX@IM6yLnq$czKacr&l+qUDn4%WTx}o%Hh@Cslhh32zP?S$p>=Vg<l6z1#46!@#}Q?v9hWxVWrc^?Y{q;IN"
    "b*6!EJ~v@@t@*f$$b;J*LoZmHn|?^yI~gJWCjmo=|l1`Y+h>CW@ROsJeMXgN==-X#-<}3Pjp_SnQ`h|XHDX{_r306*A*y-`@QI$Uq;87L7dh"
    "7E|>=9{<DR~!t5iNMOD)%Nm<Cvp(C~eAMW{0`sTUUU7T`r4<yI$7*<_()_4BRIo;&{7tDiQ4<xse+P44hEw1(<7w7MN@2uvuiCXAYiE1bntb"
    "%pNt9nw>U+W*8#r;<KKi%GZr||`%oLwj"
))  # fmt: skip


def version() -> str:
    """Import the runtime and return its version."""
    import numpy  # noqa: F401  what is forked later finds it imported
    from ai_edge_litert import __version__, interpreter  # noqa: F401

    return str(__version__)


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Callable[[], object]:
    """Load a file as most users deploy it: ``threads`` threads, defaults elsewhere.

    Raises:
        ValueError: the file is no TFLite file, or an input has a free size.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = {"model_content": EMPTY_MODEL} if path is None else {"model_path": path}
    interpreter = Interpreter(num_threads=threads, **model)
    interpreter.allocate_tensors()
    for entry in interpreter.get_input_details():
        shape = [int(size) for size in entry["shape_signature"]]
        interpreter.set_tensor(entry["index"], random_array(shape, entry["dtype"]))
    run: Callable[[], object] = interpreter.invoke
    return run
