"""Arguments and options that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PLATFORM = "local/onnxruntime?threads=1"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="name?arguments | file.py:function | torchvision:NAME | timm:NAME (see: netadapt ls models)",
    ),
]
Platform = Annotated[
    str, typer.Option("--platform", "-p", help="Where it is measured: device/runtime?options (netadapt ls platforms).")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
At = Annotated[
    str,
    typer.Option(
        "--at", metavar="B|best|initial", help='A budget such as "8 ms" or "50%", best, initial, or a name such as 007.'
    ),
]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The network that the run started from. Needed where that is a file of yours: "
        "code that a run folder names is never executed by itself.",
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="section.key=value, e.g. search.decay=0.9; may be repeated.")
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact/--inexact",
        help="Inexact: offer also channels over which a norm takes statistics (the residual stream of transformers).",
    ),
]
Blocks = Annotated[
    bool,
    typer.Option("--blocks/--no-blocks", help="Offer whole residual blocks too, as groups that may have no channel."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
