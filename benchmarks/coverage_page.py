"""Gathers what `graph_coverage.py` found into benchmarks/results/graph_coverage.json and docs/graph_coverage.md.

    python benchmarks/coverage_page.py [--version COMMIT [--version LATER_COMMIT]] | --restore

Results of the present source are taken, or of the versions named: where a change concerned a few networks only, those
are run again and the last version that has a result counts. A network that has none is in neither file. In a fresh
checkout ``--restore`` puts what benchmarks/results holds back to where `graph_coverage.py` keeps it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from _markdown import table
from _record import RESULTS, provenance, write
from architectures import names
from coverage_ours import ADAPTABLE
from graph_coverage import ROOT, SEED, path_of, tools

PAGE = ROOT / "docs/graph_coverage.md"
RATIO_LIMIT, MEMORY_LIMIT_MB = 5.0, 4 * 2**30 / 1e6  # of a trace: against torch.export alone, and its peak
SETS = {
    "torchvision": "torchvision, classifiers",
    "torchvision-segmentation": "torchvision, segmentation",
    "torchvision-backbone": "torchvision, detection backbones",
    "timm": "timm",
}
_THREADS = ", OMP_NUM_THREADS "
_MAKING = ("name", "tool", *provenance())
Found = Mapping[str, Any]


def gather(ours: Sequence[str], theirs: str, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return ``{name: {"ours": ..., "theirs": ... or None}}`` of the networks that netadapt has a result for.

    Args:
        ours: versions of netadapt, as of `graph_coverage.tools`; the last that has a result of a network counts.
        theirs: version of Torch-Pruning, likewise.
        wanted: names of networks.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in wanted:
        path = _path_of_last(name, ours)
        if path is not None:
            found[name] = {"ours": _read(path) | {"version": path.parent.name}, "theirs": None}
            if path_of(name, theirs).is_file():
                found[name]["theirs"] = _read(path_of(name, theirs))
    return found


def _path_of_last(name: str, versions: Sequence[str]) -> Path | None:
    return next((path for v in reversed(versions) if (path := path_of(name, v)).is_file()), None)


def making(found: Mapping[str, Found]) -> dict[str, Any]:
    """Return when and on which processors the results of `gather` were found."""
    rows = [row[key] for row in found.values() for key in ("ours", "theirs") if row[key] is not None]
    dates = [row["date"] for row in rows]
    return {
        "first": min(dates, default=None),
        "last": max(dates, default=None),
        "processors": sorted({row["processor"] for row in rows}),
    }


def _read(path: Path) -> dict[str, Any]:
    """Return what was found, and when and where."""
    whole = _read_whole(path)
    where = _THREADS.join([whole["machine"]["processor"], whole["machine"]["threads"]])
    found = {key: value for key, value in whole.items() if key not in _MAKING}
    return found | {"date": whole["date"], "processor": where}


def _read_whole(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def totals(found: Mapping[str, Found]) -> dict[str, dict[str, Any]]:
    """Return the counts of every set of networks that has results."""
    told = {}
    for key, title in SETS.items():
        rows = [row for name, row in found.items() if name.partition(":")[0] == key]
        if rows:
            told[title] = _totals([row["ours"] for row in rows], [row["theirs"] for row in rows if row["theirs"]])
    return told


def _totals(ours: Sequence[Found], theirs: Sequence[Found]) -> dict[str, Any]:
    traced = [row for row in ours if "cut" in row]
    ratios = [row["trace_s"] / row["export_s"] for row in traced]
    outcomes = Counter(row["cut"]["outcome"] for row in traced)
    return {
        "networks": len(ours),
        "not_traced": len(ours) - len(traced),
        "cut_equal": outcomes["equal"],
        "nothing_to_cut": outcomes["nothing to cut"],
        "wrong": len(traced) - outcomes["equal"] - outcomes["nothing to cut"],
        "worst_difference": max((row["cut"].get("difference", 0.0) for row in traced), default=0.0),
        "half_adaptable": sum(row["pinned_share"] <= ADAPTABLE for row in traced),
        "half_adaptable_inexact": sum(_least_pinned(row) <= ADAPTABLE for row in traced),
        "ratio_median": round(median(ratios), 2) if ratios else None,
        "ratio_worst": round(max(ratios), 2) if ratios else None,
        "ratio_above_limit": sum(ratio > RATIO_LIMIT for ratio in ratios),
        "memory_worst_mb": max((row["memory_mb"] for row in traced), default=None),
        "memory_above_limit": sum(row["memory_mb"] > MEMORY_LIMIT_MB for row in traced),
        "torch_pruning": dict(Counter(their_outcome(row) for row in theirs)),
    }


def _least_pinned(row: Found) -> float:
    """Return the pinned share of MACs, with inexact groups where those were looked at and cut without a fault."""
    inexact = row.get("inexact")
    return float(inexact["pinned_share"] if inexact and inexact["outcome"] == "runs" else row["pinned_share"])


def their_outcome(row: Found) -> str:
    """Return in a word what became of a network in Torch-Pruning."""
    if "failure" not in row:
        return str(row["outcome"])
    return "out of bounds" if row["failure"].startswith("needs more") else "error"


def page(found: Mapping[str, Found], counted: Mapping[str, Found], versions: Mapping[str, str]) -> str:
    """Return the text of docs/graph_coverage.md."""
    parts = [
        "# Architectures: what can be removed, what is pinned, what is refused",
        f"Written by `benchmarks/coverage_page.py` from what `benchmarks/graph_coverage.py` found with netadapt "
        f"{_versions(found)} and {versions['theirs']}, one network per process, one thread. Definitions only, random "
        f"weights (seed {SEED}). Networks that were not run are not listed.",
        table(_TOTALS_HEAD, [_totals_row(title, row) for title, row in counted.items()]),
        "\n".join(_NOTES),
        "## Networks with less than half of their MACs adaptable, or none at all",
        _refused(found) or "None.",
        "## All networks",
        table(_HEAD, [_row(name, row["ours"], row["theirs"]) for name, row in found.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _versions(found: Mapping[str, Found]) -> str:
    """Return the versions of netadapt with how many networks each was run on."""
    counts = Counter(row["ours"]["version"] for row in found.values())
    return " and ".join(f"`{version}` ({count} networks)" for version, count in counts.most_common())


_NOTES = (
    "* *cut, equal*: about half of the units of every group removed at once; the shrunk network against the original "
    "with those units masked at their consumers, in double precision, difference at most 1e-9 of the largest output. "
    "*wrong*: anything else that was not refused.",
    "* *pinned*: share of MACs in layers whose cost no group can change. *half adaptable*: at most half is pinned; "
    "*with inexact groups*: also those over which a norm takes its statistics (`trace(exact=False)`), looked at where "
    "more than half is pinned without. What stays is sliced as exactly (proved in double precision with copies of "
    "units) but computes with other statistics, so that there is no masked original to compare with: *runs*.",
    "* *trace / export*: processor time of `netadapt.trace`, proof included, over that of `torch.export` alone, "
    "which is its first part. *memory*: peak resident memory up to the end of the trace, torch, the "
    "libraries and the weights included.",
    "* *Torch-Pruning*: magnitude pruner, a quarter of all channels, layers with as many output channels as the "
    "network's output left alone. *equal* and *wrong values* as above, but up to 1e-6; *runs*: it pruned what a layer "
    "or group norm or `nn.MultiheadAttention` sees, so that values change by nature and were not compared. It is "
    "called without hints (`num_heads`, `unwrapped_parameters`), as netadapt is. *out of bounds*: it needed more "
    "processor time than it was given; the row says how much that was.",
)
_TOTALS_HEAD = (
    "set", "networks", "not traced", "cut, equal", "nothing to cut", "wrong", "worst difference", "half adaptable",
    "with inexact groups",
    "trace / export, median (worst)", "above 5", "memory, worst, MB", "above 4 GiB", "Torch-Pruning",
)  # fmt: skip
_HEAD = (
    "network", "px", "trace, s", "/ export", "memory, MB", "MMACs", "groups", "pinned", "cut", "difference",
    "Torch-Pruning",
)  # fmt: skip


def _totals_row(title: str, row: Found) -> list[str]:
    theirs = ", ".join(f"{count} {outcome}" for outcome, count in sorted(row["torch_pruning"].items()))
    return [
        title,
        str(row["networks"]),
        str(row["not_traced"]),
        str(row["cut_equal"]),
        str(row["nothing_to_cut"]),
        str(row["wrong"]),
        f"{row['worst_difference']:.1e}",
        *(
            f"{row[key]} ({100 * row[key] / row['networks']:.1f} %)"
            for key in ("half_adaptable", "half_adaptable_inexact")
        ),
        f"{row['ratio_median']} ({row['ratio_worst']})",
        str(row["ratio_above_limit"]),
        f"{row['memory_worst_mb'] or 0:.0f}",
        str(row["memory_above_limit"]),
        theirs or "not run",
    ]


def _row(name: str, ours: Found, theirs: Found | None) -> list[str]:
    other = "not run" if theirs is None else _their_text(theirs)
    if "cut" not in ours:
        return [f"`{name}`", "", "", "", f"{ours['peak_mb']:.0f}", "", "", "", "not traced", "", other]
    cut = ours["cut"]
    return [
        f"`{name}`",
        str(ours["side"]),
        f"{ours['trace_s']:.1f}",
        f"{ours['trace_s'] / ours['export_s']:.1f}",
        f"{ours['memory_mb']:.0f}",
        f"{ours['macs'] / 1e6:.1f}",
        str(ours["groups"]),
        f"{100 * ours['pinned_share']:.0f} %",
        cut["outcome"],
        f"{cut['difference']:.1e}" if "difference" in cut else "",
        other,
    ]


def _their_text(row: Found) -> str:
    if "failure" in row:
        return _escaped(row["failure"][:110])
    return f"{row['outcome']} ({row['difference']:.1e})" if row["outcome"] == "wrong values" else str(row["outcome"])


def _refused(found: Mapping[str, Found]) -> str:
    lines = []
    for name, row in found.items():
        ours = row["ours"]
        if "cut" not in ours:
            lines.append(f"* `{name}`: {_escaped(ours['failure'])}")
        elif ours["pinned_share"] > ADAPTABLE or ours["cut"]["outcome"] not in ("equal", "nothing to cut"):
            lines.append(f"* `{name}`: {_pinned(ours)}, {ours['cut']['outcome']}: {_reasons(ours)}")
            if inexact := ours.get("inexact"):
                more = f"{inexact['inexact_groups']} inexact groups, {inexact['outcome']}"
                lines.append(f"    * with inexact groups {_pinned(inexact)} ({more}): {_reasons(inexact)}")
    return "\n".join(lines)


def _pinned(row: Found) -> str:
    return f"{100 * row['pinned_share']:.0f} % pinned"


def _reasons(row: Found) -> str:
    return "; ".join(f"{100 * r['share']:.0f} % {_escaped(r['reason'])}" for r in row["reasons"])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write_all(ours: Sequence[str] = ()) -> tuple[Path, Path]:
    """Write both files from the results of versions of netadapt, default the present one, and return their paths."""
    versions = tools()
    ours = ours or [versions["ours"]]
    versions["ours"] = ", ".join(ours)
    wanted = names()
    found = gather(ours, versions["theirs"], wanted)
    counted = totals(found)
    document = {
        "versions_compared": versions,
        "found": making(found),
        "seed": SEED,
        "totals": counted,
        "networks": found,
        **provenance(),
    }
    result = write(RESULTS / "graph_coverage.json", document)
    PAGE.write_text(page(found, counted, versions))
    return result, PAGE


def restore(document: Found) -> int:
    """Put the results of a committed document back to where single ones are kept, and return how many were missing.

    Args:
        document: of `write_all`.
    """
    missing = 0
    for name, row in document["networks"].items():
        for key, tool in (("ours", row["ours"]["version"]), ("theirs", document["versions_compared"]["theirs"])):
            if row[key] is not None and not (path := path_of(name, tool)).is_file():
                write(path, _as_made(name, tool, dict(row[key]), document))
                missing += 1
    return missing


def _as_made(name: str, tool: str, row: dict[str, Any], document: Found) -> dict[str, Any]:
    """Return a row as `graph_coverage.py` had written it; older documents tell when and where for all together."""
    made = {key: document[key] for key in provenance()}
    made["date"] = row.pop("date", document["found"]["first"])
    where = row.pop("processor", (document["found"]["processors"] or [""])[-1])
    processor, _, threads = where.partition(_THREADS)
    made["machine"] = document["machine"] | {"processor": processor, "threads": threads}
    row.pop("version", None)
    return {"name": name, "tool": tool, **row, **made}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--version", action="append", default=[], metavar="COMMIT", help="whose results; default the present source's"
    )
    parser.add_argument("--restore", action="store_true", help="put committed results back to runs/graph_coverage")
    arguments = parser.parse_args()
    if arguments.restore:
        print(f"{restore(_read_whole(RESULTS / 'graph_coverage.json'))} results were missing and are back")
        return
    print(*write_all(arguments.version), sep="\n")


if __name__ == "__main__":
    main()
