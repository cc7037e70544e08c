"""What lies in the cache of measurements for one network on one platform, for ``netadapt estimator show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netadapt.network import Network
from netadapt.platforms import Platform
from netadapt.resources.samples import cache_folder


def stored(network: Network, platform: Platform) -> dict[str, Any]:
    """Return the file of a network's measurements and what it holds; nothing is measured.

    Args:
        network: the traced network.
        platform: where it is measured.
    """
    for path in sorted(cache_folder().glob("*.jsonl")):
        header, *records = _lines(path) or [{}]
        subject = header.get("subject", {})
        if subject.get("network") == network.structure_hash() and subject.get("platform") == dict(
            platform.fingerprint()
        ):
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
