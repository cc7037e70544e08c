"""Exchange: better widths at the same cost, by the untuned loss of whole networks (DESIGN, sections 5 and 9).

Losses of groups cut alone do not add up once all of them are cut deep. So networks that just meet the constraint are
scored as a whole, a Gaussian process foretells the loss of others from them, and annealed exchanges between groups
find the best of those, which is scored in turn. Nothing is trained. `adaptation/methods.py` puts it behind
`one_shot.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netadapt.baselines.annealing import Feasible, Losses, anneal, nearest, options
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import NumFilters, Proposal, Vector, judge
from netadapt.resources.estimator import Estimator
from netadapt.resources.process import Process

#: of the networks to be scored, the part that is drawn around the first choice before any loss is foretold
_DRAWN = 1 / 4
#: how far drawn widths lie from those that they are drawn around: standard deviation of their logarithms
_SPREAD = 0.35
#: groups that exchange width in a network that is drawn near the best one
_NEAR = 4
#: factors by which drawn widths are scaled: the largest that the constraint allows is taken
_FACTORS = np.geomspace(4.0, 0.1, 200)
#: draws after which one that is known already is taken
_DRAWS = 20
#: what the process expects: logarithms of widths times this for its length scale, losses times that for its amplitude
_SCALE, _AMPLITUDE = 0.3, 0.1
#: losses are told apart up to so many times the distance of the median from the lowest
_WORST = 5.0


class LossModel:
    """Foretells the loss of whole networks from that of some, up to a scale that rises with it.

    Args:
        widths: of the original network, ``(groups,)``.
        scored: ``(n, groups)`` widths of networks that were scored, two or more.
        losses: ``(n,)`` theirs, finite.
    """

    def __init__(self, widths: Vector, scored: Vector, losses: Losses) -> None:
        self._widths = widths
        self._centre = np.log(scored / widths).mean(axis=0)
        lowest = losses.min()
        unit = float(np.median(losses) - lowest) or 1.0
        # almost linear among the better half; how bad the worst are does not matter
        targets = _AMPLITUDE * np.log1p(np.minimum((losses - lowest) / unit, _WORST))
        self._level = float(targets.mean())
        linear, position = self._columns(scored)
        blocks = np.minimum(np.arange(linear.shape[1]), 1)
        self._process = Process(linear, blocks, position, targets - self._level)

    def __call__(self, widths: Vector) -> Losses:
        """Return what stands for the expected losses of widths ``(m, groups)``: the higher, the higher they are."""
        return self._process.predict(*self._columns(widths))[0] + self._level

    def _columns(self, widths: Vector) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return linear columns (a constant, and one for each group) and the position."""
        logarithms = np.log(widths / self._widths) - self._centre
        linear = np.concatenate([np.ones((len(widths), 1)), logarithms], axis=1)
        return linear.astype(np.float32), (_SCALE * logarithms).astype(np.float32)


class ExchangeChooser:
    """ChooseNumFilters that improves on what another one chooses, at the same cost.

    Asked from the original network, it passes on the other's choice: from so far away no estimate says that two
    networks cost the same. Asked again from there (see `remeasured.py`), it scores networks.

    Args:
        first: the other one; its proposals are cut from the original network.
        groups: of the original network, in the column order of the estimators.
        estimators: by resource.
        score: untuned loss of the network of some widths ``(groups,)``; ``inf`` where it is not finite.
        networks: how many are scored at the first constraint; whenever it is asked again, at most one more.
        multiple, minimum: see `netadapt.proposals.allowed_widths`.
        seed: of all draws.
        known: losses by widths of networks that were scored before.
    """

    def __init__(
        self,
        first: NumFilters,
        groups: Sequence[ChannelGroup],
        estimators: Mapping[str, Estimator],
        score: Callable[[Vector], float],
        *,
        networks: int,
        multiple: int,
        minimum: int,
        seed: int,
        known: Mapping[tuple[int, ...], float],
    ) -> None:
        self._first = first
        self._groups = tuple(groups)
        self._estimators = dict(estimators)
        self._score = score
        self._networks = networks
        self._seed = seed
        self._options = [options(group, multiple, minimum) for group in groups]
        self._full = np.array([group.width for group in groups], dtype=np.int64)
        self._known = dict(known)

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return the network of least loss among those that were scored and meet the constraint.

        Args:
            widths: of the current network, of which ``resources`` were measured.
            resources: see `netadapt.proposals.NumFilters`.
            constraint: see `netadapt.proposals.NumFilters`.

        Returns:
            One proposal; what the first chooser says if asked from the original network, and if no loss is finite.
        """
        current = np.array([widths[group.name] for group in self._groups], dtype=np.int64)
        found = self._first.proposals(widths, resources, constraint)
        if not found or (current == self._full).all():
            return found

        def feasible(rows: Vector) -> NDArray[np.bool_]:
            return judge(self._estimators, rows, current, resources, constraint).feasible

        starts = [np.array([p.widths[group.name] for group in self._groups], dtype=np.int64) for p in found]
        for start in starts:
            self._know(start)
        for _ in range(self._networks - len(self._known)):
            self._know(self._next(starts, feasible))
        self._know(self._foretold(self._best(starts, feasible), feasible))
        best = self._best(starts, feasible)
        if not math.isfinite(self._known[tuple(best.tolist())]):
            return found
        judged = judge(self._estimators, best[None], current, resources, constraint)
        return [judged.proposal(0, self._groups, self._full)]

    def _know(self, widths: Vector) -> None:
        key = tuple(widths.tolist())
        if key not in self._known:
            self._known[key] = self._score(widths)

    def _best(self, starts: Sequence[Vector], feasible: Feasible) -> Vector:
        """Return the network of least loss of those that are known and feasible; the starts are both."""
        rows, losses = self._all()
        order = rows[np.argsort(losses, kind="stable")]
        allowed = order[feasible(order)]
        return allowed[0] if len(allowed) else starts[0]

    def _next(self, starts: Sequence[Vector], feasible: Feasible) -> Vector:
        """Return a network to be scored: first drawn far from the starts, then foretold and drawn near the best."""
        number = len(self._known)
        if number < _DRAWN * self._networks:
            return self._drawn(starts[number % len(starts)], len(self._groups), feasible)
        best = self._best(starts, feasible)
        foretold = self._foretold(best, feasible) if number % 2 else best
        return self._drawn(best, _NEAR, feasible) if tuple(foretold.tolist()) in self._known else foretold

    def _foretold(self, best: Vector, feasible: Feasible) -> Vector:
        """Return the feasible network of which the least loss is expected; ``best`` if too few are known."""
        rows, losses = self._all()
        finite = np.isfinite(losses)
        if finite.sum() < 2:
            return best
        model = LossModel(self._full, rows[finite], losses[finite])
        return anneal(self._options, best, model, feasible, seed=[self._seed, len(rows)])

    def _drawn(self, centre: Vector, exchanging: int, feasible: Feasible) -> Vector:
        """Return a network in which some groups differ from another one, as wide as is feasible; itself if none is."""
        random = np.random.default_rng([self._seed, len(self._known)])
        for _ in range(_DRAWS):
            moved = random.permutation(len(centre)) < exchanging
            wanted = centre * np.where(moved, np.exp(random.normal(0, _SPREAD, len(centre))), 1.0)
            scaled = np.where(moved, _FACTORS[:, None] * wanted, wanted)
            rows = np.stack([nearest(o, scaled[:, k]) for k, o in enumerate(self._options)], axis=-1)
            allowed = rows[feasible(rows)]
            if len(allowed) and tuple(allowed[0].tolist()) not in self._known:
                return np.asarray(allowed[0])
        return centre

    def _all(self) -> tuple[Vector, Losses]:
        """Return widths ``(n, groups)`` and losses ``(n,)`` of all networks that were scored."""
        return np.array(list(self._known), dtype=np.int64), np.array(list(self._known.values()))
