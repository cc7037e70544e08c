"""What the benchmark "frontier" consists of: cells of set-up, method, budget and seed, in order of their value.

`run_cell.py` runs one, `bench_next.py` the most valuable one that has no result yet, `summary.py` reads the results.
All methods of a set-up share start weights, data and long-term recipe; what they differ in is `METHODS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

from _record import processor_here
from starts import model_text, settings

from netadapt.runs.config import load_config, toml_value
from netadapt.runs.settings import RunConfig, SearchSection

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cell:
    """One run of the benchmark.

    Attributes:
        setup: name of a file in ``setups/``, without ending.
        method: one of `METHODS`, or of `REFERENCES`.
        budget: a percentage of the start network's latency, or one of `NAMED_BUDGETS`; a key of `NARROW` for
            `OWN_WEIGHTS`, `WHOLE` for `TUNED_ORIGINAL`.
        seed: of everything that is drawn but start network and selection split, which all seeds of a set-up share.
    """

    setup: str
    method: str
    budget: str
    seed: int

    @property
    def name(self) -> str:
        """Return a name that every file system takes."""
        return "__".join([self.setup, self.method, self.budget.replace("%", "pc"), f"seed{self.seed}"])


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        setups: configurations of the set-ups.
        starts: prepared start weights.
        runs: run folders of the cells.
        results: one JSON file for each finished cell; a folder of its own for each kind of processor, since what
            narrow layers cost differs between them: networks are compared where they were measured.
    """

    setups: Path = ROOT / "benchmarks" / "setups"
    starts: Path = ROOT / "runs" / "starts"
    runs: Path = ROOT / "runs" / "cells"
    results: Path = ROOT / "benchmarks" / "results" / "cells" / processor_here()

    def setup(self, cell: Cell) -> Path:
        """Return the configuration of a cell's set-up."""
        return self.setups / f"{cell.setup}.toml"

    def run(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.runs / cell.name

    def result(self, cell: Cell) -> Path:
        """Return the file of a cell's result."""
        return self.results / f"{cell.name}.json"


PLACES = Places()

#: a reference, no method: a narrower network with weights of its own, which have seen far more data (`references.py`)
OWN_WEIGHTS = "own-weights"
#: a reference, no method: the start network after the long-term fine-tune that all others get, the right end of curves
TUNED_ORIGINAL, WHOLE = "tuned-original", "100%"
#: no method of ours: Torch-Pruning, at the one global ratio that hits the budget (`peer.py`)
TORCH_PRUNING = ("torch-pruning-l2", "torch-pruning-taylor")
REFERENCES = (OWN_WEIGHTS, TUNED_ORIGINAL, *TORCH_PRUNING)
_GOOGLE = "mobilenet_v1?weights=${NETADAPT_DATA}/weights/mobilenet_v1_%s.safetensors&resolution=64"
NARROW: Mapping[str, str] = {"width-0.5": _GOOGLE % "0.5_160", "width-0.25": _GOOGLE % "0.25_128"}

NAMED_BUDGETS: Mapping[str, Mapping[str, str]] = {
    "width-0.5": {"latency_of": "mobilenet_v1?width=0.5&resolution=64&classes=50&same_padding=1"},
}

#: large steps, each shared by several groups: small cuts build no bottlenecks
_NETADAPT = {"search.groups_per_step": 4}
_UNIFORM = {"search.method": "uniform"}
_ONE_SHOT = {"search.method": "one-shot"}
#: an untrained network needs a higher rate than a fine-tune; how long it is trained: see `_length`
_WHOLE_TRAINING = {"training.long_term.lr": 0.1, "training.long_term.weight_decay": 5e-4}
_FROM_SCRATCH = {"search.method": "from-scratch", **_WHOLE_TRAINING}
#: the widths of one-shot, and nothing of its weights: against from-scratch, which has the uniform ones
_RETRAINED = {**_ONE_SHOT, "training.long_term.from_scratch": True, **_WHOLE_TRAINING}

#: what a method sets in the configuration of a set-up, by dotted key
METHODS: Mapping[str, Mapping[str, Any]] = {
    "netadapt": _NETADAPT,
    "netadapt-macs": {**_NETADAPT, "search.estimator": "macs"},
    "one-shot": _ONE_SHOT,
    "one-shot-blocks": {**_ONE_SHOT, "model.blocks": True},
    "one-shot-macs": {**_ONE_SHOT, "search.estimator": "macs"},
    "uniform": _UNIFORM,
    "from-scratch": _FROM_SCRATCH,
    "one-shot-retrained": _RETRAINED,
    "one-shot-long": _ONE_SHOT,  # but for how long it is tuned: see `_length`
    "one-shot-exchange": {**_ONE_SHOT, "search.exchanges": 64},
    "one-shot-curves-250": {**_ONE_SHOT, "search.curve_images": 250},
    # search cost: every proposal is tuned, as in the paper, for so many images
    **{f"faithful-{n}": {"search.mode": "faithful", "training.short_term.images": n} for n in (320, 960, 2880)},
    # ablations
    **{f"netadapt-short-{n}": {**_NETADAPT, "training.short_term.images": n} for n in (0, 640, 5760)},
    **{f"netadapt-step-{n}": {**_NETADAPT, "search.first_step": f"{n}%"} for n in (3, 12)},
    "netadapt-decay-1": {**_NETADAPT, "search.decay": 1.0},
    "netadapt-pick-resource": {**_NETADAPT, "search.pick": "accuracy_per_resource"},
    "netadapt-groups-1": {},
    "netadapt-contenders-3": {"search.contenders": 3},
    "netadapt-norm": {**_NETADAPT, "search.filters": "norm"},
    "one-shot-norm": {**_ONE_SHOT, "search.filters": "norm"},
    "uniform-norm": {**_UNIFORM, "search.filters": "norm"},
    "netadapt-selection-10": {**_NETADAPT, "task.selection": 10},
    "one-shot-selection-10": {**_ONE_SHOT, "task.selection": 10},
}
#: the methods that inherit no weights
FROM_NOTHING = ("from-scratch", "one-shot-retrained")
#: the methods whose final networks are trained as long as a start network and the others after it, see `_length`
_TRAINED_LONG = (*FROM_NOTHING, "one-shot-long")
MAIN = ("uniform", "one-shot", "netadapt", "from-scratch")
FAITHFUL = tuple(name for name in METHODS if name.startswith("faithful-"))
ABLATIONS = tuple(METHODS)[tuple(METHODS).index("netadapt-short-0") :]


def parent(ablation: str) -> str:
    """Return the method that one of `ABLATIONS` differs from in one thing."""
    return next(method for method in MAIN if ablation.startswith(f"{method}-"))


def difference(ablation: str) -> str:
    """Return what one of `ABLATIONS` sets that its `parent` does not; what it leaves at the default is said so."""
    own, usual = METHODS[ablation], METHODS[parent(ablation)]
    changed = [f"{key.partition('.')[2]} = {value}" for key, value in own.items() if usual.get(key) != value]
    return ", ".join([*changed, *(f"{key.partition('.')[2]} = default" for key in usual if key not in own)])


SEEDS = (0, 1, 2)


_A, _C, _R20 = "mobilenet_v1_tiny_imagenet", "resnet56_cifar10", "resnet20_cifar10"
_B = ("mobilenet_v1_cifar10", "mobilenet_v2_cifar10")
#: what each set-up is asked for; under 1.5 times the smallest network's latency a budget says nothing
_BUDGETS: Mapping[str, Sequence[str]] = {
    _A: ("width-0.5", "25%"),
    _B[0]: ("20%", "12%"),
    _B[1]: ("40%", "28%"),
    _C: ("70%", "55%"),
}


def _cells(
    setups: Iterable[str],
    methods: Iterable[str],
    *,
    seeds: Iterable[int] = SEEDS,
    budgets: Sequence[str] = (),
) -> list[Cell]:
    """Return all combinations, of each set-up's own budgets if none are given; seeds change last: first ones early."""
    asked = [(setup, budget) for setup in setups for budget in budgets or _BUDGETS[setup]]
    return [Cell(setup, method, budget, seed) for seed, (setup, budget), method in product(seeds, asked, methods)]


def _with_ends(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells, and behind the last one of each seed and set-up the tuned original of both."""
    last = {(cell.setup, cell.seed): number for number, cell in enumerate(cells)}
    ends = {number: Cell(setup, TUNED_ORIGINAL, WHOLE, seed) for (setup, seed), number in last.items()}
    return [each for number, cell in enumerate(cells) for each in (cell, ends.get(number)) if each is not None]


CELLS: tuple[Cell, ...] = (
    *_with_ends(_cells([_A], MAIN)),
    *_cells([_A], [OWN_WEIGHTS], seeds=[0], budgets=tuple(NARROW)),
    *_with_ends(_cells([_R20], ("one-shot-curves-250", *FAITHFUL, "one-shot"), budgets=["70%"])),
    *_cells(_B[:1], ("one-shot-curves-250", *FAITHFUL), budgets=["20%"]),
    *_with_ends(_cells(_B, MAIN)),
    *_cells([_A], ["one-shot-exchange"], budgets=["25%"]),
    *_cells(_B, ["one-shot-long", "one-shot-retrained", "one-shot-exchange"]),
    *_cells([_A], ["netadapt-macs"]),
    *_cells(_B, ["one-shot-macs"]),
    *_with_ends(_cells([_C], MAIN)),
    *_cells([_C], ["one-shot-blocks", "one-shot-macs", *TORCH_PRUNING]),
    *_cells([_C], ["uniform", "one-shot-blocks"], budgets=["45%"]),
    *_cells(_B, TORCH_PRUNING),
    *_cells(_B[1:], ["one-shot-blocks"]),  # MobileNetV1 has no residual blocks
    *_cells([_A], MAIN, budgets=["40%"]),
    *_cells([_R20], ["netadapt"], seeds=[0], budgets=["70%"]),
    *_with_ends(_cells(["resnet32_cifar10"], ("one-shot", "netadapt"), seeds=[0], budgets=["70%"])),
    *_cells(_B[:1], ABLATIONS, seeds=[0], budgets=["20%"]),
)


def missing(cells: Iterable[Cell] = CELLS, places: Places = PLACES) -> Iterator[Cell]:
    """Yield the cells without a result that this netadapt can run, the most valuable first."""
    return (cell for cell in cells if not places.result(cell).is_file() and supported(cell))


def supported(cell: Cell) -> bool:
    """Tell whether the configuration knows the method of a cell."""
    return cell.method in REFERENCES or all(_known(key, value) for key, value in METHODS[cell.method].items())


def _known(key: str, value: Any) -> bool:
    """Tell whether a key of ``[search]`` may have a value; of other keys only `load_config` knows."""
    section, _, name = key.partition(".")
    if section != "search":
        return True
    field = SearchSection.model_fields.get(name)
    choices = () if field is None else get_args(field.annotation)
    return field is not None and (not choices or value in choices)


def config(cell: Cell, places: Places = PLACES) -> RunConfig:
    """Return the configuration of a cell: that of its set-up with start weights, budget, method and seed.

    Args:
        cell: whose; not one of `REFERENCES`, which are no runs.
        places: where things lie; nothing is written, and the start weights need not be there yet.

    Raises:
        ConfigError: a value is wrong, or ``NETADAPT_DATA`` is not set.
    """
    setup = places.setup(cell)
    base = settings(setup, cell.seed)
    start = {"source": model_text(setup, places.starts), "keep": base.model.keep}
    budget = NAMED_BUDGETS.get(cell.budget) or {"latency": cell.budget}
    chosen = {**METHODS[cell.method], **_length(cell, base)}
    values = {"run.seed": cell.seed, "task.seed": base.task.seed, "run.folder": str(places.run(cell)), **chosen}
    tables = [f"model={_inline(start)}", f"budget={_inline(budget)}"]
    return load_config(setup, [*tables, *(f"{key}={toml_value(value)}" for key, value in values.items())])


def _length(cell: Cell, base: RunConfig) -> dict[str, float]:
    """Return how long a network is trained from scratch: as long as the start network and the others after it, *here*.

    That is a fair length on set-ups (b) alone, whose start networks the project trains itself. On (a) and (c) they come
    pretrained (on ImageNet; as finished ResNets), and what they saw before is not made up for: from-scratch sees far
    less data there, and a lead over it may be due to that alone. Where the set-up distils, the start network teaches
    from-scratch too: it is not without help of a trained network. ``one-shot-long`` is trained as long, from the
    weights that one-shot inherits: who has a trained network and so much time may do either.

    Args:
        cell: whose.
        base: configuration of the set-up.

    Returns:
        The key to be set and its value, in epochs; nothing for other methods.
    """
    if cell.method not in _TRAINED_LONG:
        return {}
    return {"training.long_term.epochs": all_epochs(base)}


def all_epochs(base: RunConfig) -> float:
    """Return the epochs that the final networks of a set-up have seen, with those of the start network.

    Args:
        base: configuration of the set-up; its recipes give epochs.
    """
    first, last = base.model.first_tune, base.training.long_term
    assert last.epochs is not None
    return last.epochs + (first.epochs or 0.0 if first else 0.0)


def _inline(table: Mapping[str, Any]) -> str:
    """Return a table on one line, as an override wants it."""
    return "{" + ", ".join(f"{key} = {toml_value(value)}" for key, value in table.items()) + "}"
