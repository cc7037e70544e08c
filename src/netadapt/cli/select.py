"""``netadapt select``: which network of a run to take for a budget."""

from __future__ import annotations

from typing import Annotated

import typer

from netadapt.cli.options import Json, Run
from netadapt.cli.output import result, result_json


def command(
    run: Run,
    budget: Annotated[
        list[str], typer.Option("--budget", "-b", help='E.g. "8 ms", "50%", "2 M"; several must all be met.')
    ],
    tuned: Annotated[bool, typer.Option("--tuned", help="Only networks after their long-term fine-tune.")] = False,
    as_json: Json = False,
) -> None:
    """Choose the network of a run for a budget.

    It is the most accurate one on the selection split whose measured cost meets the budget.
    """
    from netadapt.budget import Budget, parse_limit
    from netadapt.family import Family

    wanted = Budget(tuple(parse_limit(text) for text in budget))
    variant = Family.read(run).at(wanted, tuned=tuned)
    if as_json:
        result_json(variant.to_json())
        return
    result(str(variant))
    result(f"widths: {', '.join(f'{name} {width}' for name, width in variant.widths.items())}")
    result(f"files:  {variant.folder}")
    result(f'load:   netadapt.load("{variant.folder}", model=...)')
    if not variant.tuned:
        result(f"tune:   netadapt tune {run} --at {variant.name}")
