"""All networks of a run, and the choice of one for a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netadapt.budget import Budget, format_quantity
from netadapt.errors import BudgetError, BudgetUnreachable, RunDamaged
from netadapt.family.variant import Variant, measurement_of
from netadapt.runs.folder import inside
from netadapt.runs.state import Data, State, read_state
from netadapt.runs.status import INITIAL, summarise


@dataclass(frozen=True)
class Family:
    """The networks that a run found.

    Attributes:
        initial: the original network.
        variants: one per step, in order of their iteration; the original is not among them.
        budget: limit by resource, in canonical units.
        final: name of the variant that the run ended with, if it has ended.
    """

    initial: Variant
    variants: tuple[Variant, ...]
    budget: Mapping[str, float]
    final: str | None = None

    @classmethod
    def read(cls, folder: str | Path) -> Family:
        """Read the family of a run folder; the run may be going on.

        Raises:
            RunDamaged: it is no run folder, or it cannot be trusted.
        """
        return cls.of_state(read_state(Path(folder)), Path(folder))

    @classmethod
    def of_state(cls, state: State, folder: Path) -> Family:
        """Return the family of a run whose journal is read already.

        Args:
            state: the fold of the journal.
            folder: the run folder.

        Raises:
            RunDamaged: the run has not started yet, or names files outside its folder.
        """
        if state.start is None:
            raise RunDamaged(
                f"{folder} holds no networks yet: the run stopped before it measured the original. Run it again."
            )
        initial, *variants = (_variant(entry, state, folder) for entry in summarise(state)["family"])
        final = str(state.final["variant"]) if state.final else None
        return cls(initial, tuple(variants), state.start["budget"], final)

    @property
    def best(self) -> Variant:
        """The variant that the run ended with; before that, the most accurate within the budget, or the nearest."""
        for variant in self:
            if variant.name == self.final:
                return variant
        within = [variant for variant in self if _meets(variant, self.budget)]
        return max(within, key=_merit) if within else min(self, key=self._excess)

    def at(
        self, budget: str | Budget | Mapping[str, str] | None = None, *, tuned: bool = False, **limits: str
    ) -> Variant:
        """Return the most accurate network whose measured cost meets a budget.

        Accuracy is that on the selection split before the long-term fine-tune, which all networks have: the order is
        the same afterwards (the paper's Fig. 9), and the test split decides nothing.

        Args:
            budget: e.g. ``"8 ms"`` or ``"50%"`` of the original's latency.
            tuned: only networks that have been through the long-term fine-tune.
            **limits: the same by resource, e.g. ``latency="8 ms", parameters="2 M"``.

        Raises:
            BudgetError: it cannot be read.
            BudgetUnreachable: no network meets it; the message says what there is.
        """
        given = Budget.parse(budget).limits if budget is not None else ()
        wanted = Budget((*given, *(Budget.parse(limits).limits if limits or not given else ())))
        bounds = self._bounds(wanted)
        within = [v for v in self if _meets(v, bounds) and (v.tuned or not tuned)]
        if not within:
            asked, there = "; ".join(map(str, wanted.limits)), "\n  ".join(map(str, self))
            raise BudgetUnreachable(f"No network of this run meets {asked}. There are:\n  {there}")
        return max(within, key=_merit)

    def __iter__(self) -> Iterator[Variant]:
        """Iterate over the original and all variants."""
        yield self.initial
        yield from self.variants

    def __len__(self) -> int:
        """Return how many networks there are, the original included."""
        return 1 + len(self.variants)

    def __getitem__(self, name: str) -> Variant:
        """Return a network by its name, e.g. ``"007"``.

        Raises:
            KeyError: there is none.
        """
        for variant in self:
            if variant.name == name:
                return variant
        raise KeyError(f"no variant {name!r}; there are {', '.join(v.name for v in self)}")

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "budget": dict(self.budget),
            "best": self.best.name,
            "initial": self.initial.to_json(),
            "variants": [variant.to_json() for variant in self.variants],
        }

    def _bounds(self, wanted: Budget) -> dict[str, float]:
        """Return limits in canonical units; percentages are of the original."""
        bounds: dict[str, float] = {}
        for limit in wanted.limits:
            start = self.initial.resources.get(limit.resource)
            if start is None:
                raise BudgetError(
                    f"{limit.resource} was not measured in this run; it has {', '.join(self.initial.resources)}."
                )
            value = limit.value * start if limit.relative else limit.value
            bounds[limit.resource] = min(value, bounds.get(limit.resource, value))
        return bounds

    def _excess(self, variant: Variant) -> float:
        """Return how far the worst resource of ``variant`` is above its limit, as a ratio."""
        ratios = (variant.resources.get(name, float("inf")) / limit for name, limit in self.budget.items())
        return max(ratios, default=0.0)

    def __str__(self) -> str:
        """Return one line per network."""
        limits = ", ".join(format_quantity(value, name) for name, value in self.budget.items())
        return f"family of {len(self)} networks, budget {limits}\n" + "\n".join(f"  {variant}" for variant in self)


def _variant(entry: Mapping[str, Any], state: State, folder: Path) -> Variant:
    """Return the network of one entry of the status."""
    name = str(entry["variant"])
    tune = state.long_terms.get(name, {})
    return Variant(
        name=name,
        iteration=entry["iteration"],
        widths=entry["widths"],
        resources={key: value for key, value in entry["resources"].items() if value is not None},
        measurement=measurement_of(_measured(name, state)),
        accuracy=entry["accuracy_selection"],
        test_accuracy=entry["accuracy"],
        tuned=entry["tuned"],
        folder=inside(folder, str(tune.get("folder") or f"variants/{name}")),
    )


def _measured(name: str, state: State) -> Data | None:
    """Return the newest measurement of a network."""
    if state.final is not None and state.final["variant"] == name and state.final.get("measurement"):
        return state.final["measurement"]  # type: ignore[no-any-return]
    if name == INITIAL and state.start is not None:
        return state.start["initial"].get("measurement")  # type: ignore[no-any-return]
    return next((step.get("measurement") for step in state.steps if step["variant"] == name), None)


def _meets(variant: Variant, limits: Mapping[str, float]) -> bool:
    """Tell whether every limited resource is known and within its limit."""
    return all(variant.resources.get(name, float("inf")) <= limit for name, limit in limits.items())


def _merit(variant: Variant) -> tuple[float, bool, float]:
    """Order networks: accuracy, then a long-term fine-tune, then the smaller latency."""
    accuracy = -1.0 if variant.accuracy is None else variant.accuracy
    return accuracy, variant.tuned, -variant.resources.get("latency", 0.0)
