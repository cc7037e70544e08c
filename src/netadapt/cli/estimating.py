"""Estimators by name, and what lies in the cache of measurements; for ``netadapt estimator``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.cli.output import counting

if TYPE_CHECKING:
    from netadapt.network import Network
    from netadapt.platforms import Platform
    from netadapt.resources.estimator import Estimator
    from netadapt.resources.meter import Meter

Told = dict[str, Any]


def on_platform(name: str, model: str, exact: bool, blocks: bool, tell: Callable[[Network, Platform], Told]) -> Told:
    """Return what ``tell`` says of a traced network on an open platform.

    Args:
        name: of the platform.
        model: MODEL text.
        exact: as in `netadapt.trace`.
        blocks: as in `netadapt.trace`.
        tell: given both.
    """
    from netadapt.models import resolve_model
    from netadapt.network import trace
    from netadapt.platforms import resolve_platform

    platform = resolve_platform(name)
    try:
        return tell(trace(*resolve_model(model), exact=exact, blocks=blocks), platform)
    finally:
        platform.close()


def with_estimator(
    platform: str,
    model: str,
    exact: bool,
    blocks: bool,
    networks: int | None,
    kind: str,
    tell: Callable[[Network, Platform, Meter, Estimator], Told],
) -> Told:
    """Build (or take from disk) a latency estimator and return what ``tell`` says of it.

    Args:
        platform: where.
        model: MODEL text.
        exact: as in `netadapt.trace`.
        blocks: as in `netadapt.trace`.
        networks: measured to fit it; ``None`` for the usual number.
        kind: ``network`` or ``table``.
        tell: given the network, the platform, the meter and the estimator.
    """

    def told(network: Network, opened: Platform) -> Told:
        from netadapt.resources.build import build_estimators
        from netadapt.resources.meter import Meter

        meter = Meter(network, opened)
        with counting("measuring networks") as progress:
            estimators = build_estimators(
                network,
                opened,
                ["latency"],
                kind="table" if kind == "table" else "network",
                networks=networks,
                meter=meter,
                progress=progress,
            )
        return {"platform": opened.name, "kind": kind} | tell(network, opened, meter, estimators["latency"])

    return on_platform(platform, model, exact, blocks, told)


def stored(network: Network, platform: Platform) -> Told:
    """Return the file of a network's measurements and what it holds; nothing is measured.

    Args:
        network: the traced network.
        platform: where it is measured.
    """
    from netadapt.files import cache_folder
    from netadapt.resources.samples import SampleFile

    wanted = (network.structure_hash(), dict(platform.fingerprint()))
    for path in sorted(cache_folder().glob("*.jsonl")):
        header, *records = _lines(path) or [{}]
        subject = header.get("subject", {})
        mine = (subject.get("network"), subject.get("platform")) == wanted
        if mine and SampleFile(path.parent, platform.name, subject).path == path:
            designs = [record for record in records if record.get("kind") == "design"]
            return {
                "file": str(path),
                "networks": len({tuple(record["widths"]) for record in designs}),
                "steps": sum(record.get("kind") == "step" for record in records),
                "seconds": sum(record.get("seconds", 0.0) for record in designs),
            }
    return {"file": None, "networks": 0, "steps": 0, "seconds": 0.0}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file; lines that are none are for those who mend it."""

    def parsed() -> Iterator[dict[str, Any]]:
        for line in path.read_bytes().splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

    return list(parsed())
