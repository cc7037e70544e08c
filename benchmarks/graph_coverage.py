"""Traces and cuts many architectures, side by side with Torch-Pruning; each in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/graph_coverage.py [--only PATTERN] [--part 1/2] [--limit-s 1500]
        [--processor-s 60]
    OMP_NUM_THREADS=1 python benchmarks/graph_coverage.py --list

Times are processor times: with several cores, run several parts side by side. The same command goes on where it
stopped: what was found for this version of netadapt's source is kept under runs/graph_coverage. Then:

    python benchmarks/coverage_page.py
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _isolated import Limits, isolated
from _record import provenance, write
from _torchvision import import_torchvision
from architectures import names
from coverage_ours import ours
from coverage_theirs import theirs

SEED = 0
ROOT = Path(__file__).parents[1]
FOUND = ROOT / "runs/graph_coverage"
LIMITS = Limits(processor_s=300, memory_mb=20000.0)


def source_version() -> str:
    """Return the commit that last changed netadapt's source, with ``-changed`` where the tree differs from it."""
    log = ["git", "-C", str(ROOT), "log", "-1", "--format=%h", "--abbrev=12", "--", "src/netadapt"]
    status = ["git", "-C", str(ROOT), "status", "--porcelain", "--", "src/netadapt"]
    commit, changes = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in (log, status))
    return commit.strip() + ("-changed" if changes.strip() else "")


def path_of(name: str, tool: str) -> Path:
    """Return where the result of a network is kept; ``tool`` is netadapt's version or Torch-Pruning's."""
    return FOUND / tool / f"{name.replace(':', '.')}.json"


def tools() -> dict[str, str]:
    """Return the folders of results by tool: ``ours`` and ``theirs``."""
    return {"ours": source_version(), "theirs": f"torch-pruning-{version('torch-pruning')}"}


def run_one(name: str, tool: str, folder: str, limits: Limits) -> dict[str, Any]:
    """Run one network through one tool, keep the result and return it."""
    work = {"ours": ours, "theirs": theirs}[tool]
    found = isolated(partial(work, name, SEED), limits)
    document = {"name": name, "tool": folder, **found, **provenance()}
    write(path_of(name, folder), document)
    return document


def sweep(wanted: Sequence[str], which: Sequence[str], again: bool, limit_s: float, limits: Limits = LIMITS) -> int:
    """Run all networks that have no result yet; returns how many are left when the time is over."""
    began, folders, left = time.monotonic(), tools(), 0
    for name in wanted:
        for tool in which:
            if path_of(name, folders[tool]).is_file() and not again:
                continue
            if time.monotonic() - began > limit_s:
                left += 1
                continue
            print(f"{name:<50} {tool:<6} {line(run_one(name, tool, folders[tool], limits))}", flush=True)
    return left


def line(found: dict[str, Any]) -> str:
    """Return the result of one network in one line."""
    if "failure" in found:
        return f"{found['processor_s']:6.1f} s  FAILED {found['failure']}"
    if "cut" not in found:
        return f"{found['processor_s']:6.1f} s  {found['outcome']} {found.get('difference', '')}"
    cut = found["cut"]
    return (
        f"{found['processor_s']:6.1f} s  trace {found['trace_s']:.1f} s "
        f"({found['trace_s'] / found['export_s']:.1f} x), "
        f"{found['memory_mb']:.0f} MB, {found['groups']} groups, pinned {100 * found['pinned_share']:.0f} %, "
        f"{cut['outcome']} {cut.get('difference', '')}"
    )


def warm_up() -> None:
    """Import what the children need and export something small: none of them pays for that."""
    import_torchvision()
    import timm  # noqa: F401
    import torch_pruning  # noqa: F401

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
        torch.export.export(small, (torch.zeros(1, 3, 8, 8),), strict=False)


def chosen(patterns: Sequence[str]) -> list[str]:
    """Return the networks whose names match one of the patterns, in order of the patterns; all where there is none."""
    known = names()
    if not patterns:
        return known
    return list(dict.fromkeys(name for pattern in patterns for name in known if fnmatch.fnmatchcase(name, pattern)))


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="such as timm:res*; repeatable")
    parser.add_argument("--tool", choices=("ours", "theirs"), help="run this one only; default both")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="begin none after so many seconds")
    parser.add_argument("--processor-s", type=int, default=LIMITS.processor_s, help="of one network; more is a failure")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="every N-th network from the I-th on")
    parser.add_argument("--list", action="store_true", help="list the networks and run nothing")
    given = parser.parse_args()
    part, parts = (int(number) for number in given.part.split("/"))
    wanted = chosen(given.only)[part - 1 :: parts]
    if given.list:
        print("\n".join(wanted))
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    warm_up()
    tools_wanted = [given.tool] if given.tool else ["ours", "theirs"]
    left = sweep(wanted, tools_wanted, given.again, given.limit_s, replace(LIMITS, processor_s=given.processor_s))
    print(f"{left} left; the same command goes on" if left else "every network has a result")
    return 0


if __name__ == "__main__":
    sys.exit(main())
