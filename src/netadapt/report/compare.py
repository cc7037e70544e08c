"""Two questions that a report must answer honestly: was uniform width beaten, and was the estimator right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from netadapt.runs.state import Data, State
from netadapt.runs.status import latency_of
from netadapt.scores import accuracy_error

_Z95 = 1.96

Word = Literal["beats", "ties with", "loses to", "open"]


@dataclass(frozen=True)
class UniformVerdict:
    """The final network against the uniformly narrower one.

    Attributes:
        word: what the difference says at 95 % confidence; ``open`` where nothing is known of its error.
        difference: test accuracy (or other metric) of the final network minus that of the uniform one, as a fraction.
        half_width: half the 95 % confidence interval of the difference, ``None`` if it is not known.
        final_ms, uniform_ms: their latencies, where measured.
    """

    word: Word
    difference: float
    half_width: float | None
    final_ms: float | None
    uniform_ms: float | None

    def __str__(self) -> str:
        """Return e.g. ``beats uniform width by 2.6 ± 1.1 points``."""
        if self.half_width is None:
            how = f"{100 * abs(self.difference):.1f} points {'below' if self.difference < 0 else 'above'} uniform width"
            return f"is {how} (whether that is chance is not known: the task gives no standard error)"
        points = f"{100 * abs(self.difference):.1f} ± {100 * self.half_width:.1f} points"
        if self.word == "ties with":
            return f"ties with uniform width ({100 * self.difference:+.1f} ± {100 * self.half_width:.1f} points)"
        return f"{self.word} uniform width by {points}"


def uniform_verdict(state: State) -> UniformVerdict | None:
    """Compare the final network with uniform width at the same budget; ``None`` until both are tuned and tested."""
    if state.uniform is None or state.final is None or state.uniform.get("accuracy_test") is None:
        return None
    ours, theirs = final_accuracy(state), float(state.uniform["accuracy_test"])
    if ours is None:
        return None
    difference, error = ours - theirs, _difference_error(state, ours, theirs)
    half_width = None if error is None else _Z95 * error
    word: Word = "open" if half_width is None else "ties with"
    if half_width is not None and abs(difference) > half_width:
        word = "beats" if difference > 0 else "loses to"
    final_ms = latency_of(state.final)
    return UniformVerdict(word, difference, half_width, final_ms, latency_of(state.uniform))


def final_accuracy(state: State) -> float | None:
    """Return the test accuracy of the final network, if it was read."""
    if state.final is None:
        return None
    tune = state.long_terms.get(state.final["variant"], {})
    accuracy = state.final.get("accuracy_test", tune.get("accuracy_test"))
    return None if accuracy is None else float(accuracy)


def _difference_error(state: State, ours: float, theirs: float) -> float | None:
    """Return the standard error of the difference: the run's own (paired) where it gives one, else of two samples.

    ``None`` if nothing is known.
    """
    uniform = state.uniform or {}
    if uniform.get("difference_se") is not None:
        return float(uniform["difference_se"])
    images = images_of(state, "test")
    own = _known((state.final or {}).get("accuracy_se"), accuracy_error(ours, images))
    other = _known(uniform.get("accuracy_se"), accuracy_error(theirs, images))
    if own is None and other is None:
        return None
    return math.hypot(_known(own, other) or 0.0, _known(other, own) or 0.0)


def _known(first: float | None, second: float | None) -> float | None:
    return second if first is None else first


def images_of(state: State, split: str) -> int | None:
    """Return how many images a split has, where the run says so (``start.images``, or the scores of proposals)."""
    count = ((state.start or {}).get("images") or {}).get(split)
    if count is None and split == "selection":
        count = max(((p.get("score") or {}).get("count") or 0 for p in state.proposals.values()), default=None)
    return int(count) if count else None


@dataclass(frozen=True)
class Agreement:
    """Estimated against measured values of one resource.

    Attributes:
        resource: which one.
        names: of the variants.
        estimated, measured: their values in the resource's unit.
        sigma, half_width: of the estimates and of the measurements, 0 where not known.
        mean_error, worst_error: of |estimated / measured - 1|.
        bias: mean of estimated / measured - 1.
    """

    resource: str
    names: tuple[str, ...]
    estimated: tuple[float, ...]
    measured: tuple[float, ...]
    sigma: tuple[float, ...]
    half_width: tuple[float, ...]
    mean_error: float
    worst_error: float
    bias: float


def agreement(state: State, resource: str = "latency") -> Agreement | None:
    """Return how well the estimator foretold the steps (the paper's Fig. 4); ``None`` without any step."""
    steps = [step for step in state.steps if _both(step, resource)]
    if not steps:
        return None
    estimated = tuple(float(step["estimated"][resource]) for step in steps)
    measured = tuple(float(step["measured"][resource]) for step in steps)
    errors = [e / m - 1 for e, m in zip(estimated, measured, strict=True)]
    return Agreement(
        resource=resource,
        names=tuple(str(step["variant"]) for step in steps),
        estimated=estimated,
        measured=measured,
        sigma=tuple(_sigma(state, step, resource) for step in steps),
        half_width=tuple(half_width(step, resource) for step in steps),
        mean_error=sum(map(abs, errors)) / len(errors),
        worst_error=max(map(abs, errors)),
        bias=sum(errors) / len(errors),
    )


def half_width(step: Data, resource: str = "latency") -> float:
    """Return half the 95 % interval of a step's measured latency in ms; 0 for other resources or if not known."""
    if resource != "latency":
        return 0.0
    return float((step.get("measurement") or {}).get("half_width_ms") or 0)


def _sigma(state: State, step: Data, resource: str) -> float:
    """Return the standard error of a step's estimate, its own or of the proposal that won; 0 if not known."""
    for told in (step, *state.proposals.values()):
        if told["iteration"] == step["iteration"] and told.get("widths") == step["widths"] and told.get("sigma"):
            return float(told["sigma"].get(resource) or 0)
    return 0.0


def _both(step: Data, resource: str) -> bool:
    """Tell whether a step has an estimate and a positive measurement of a resource."""
    return bool((step.get("estimated") or {}).get(resource) and (step["measured"].get(resource) or 0) > 0)
