"""Exchange: other widths of the same cost, by the untuned loss of whole networks (DESIGN, sections 5 and 9).

Losses of groups cut alone do not add up once all of them are cut deep. So networks that just meet the constraint are
scored as a whole, a Gaussian process foretells the loss of others from them, and annealed exchanges between groups
find the best of those, which is scored in turn. Nothing is trained. `adaptation/methods.py` puts it behind
`one_shot.py`. What a low untuned loss is worth after a fine-tune is told in docs/results.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netadapt.baselines.annealing import Feasible, Losses, anneal
from netadapt.baselines.one_shot import OneShotChooser
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import NumFilters, Proposal, Vector, judge, vector_of
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
#: exchanges that each annealed network tries
_ROUNDS = 800
#: what the process expects: logarithms of widths times this for its length scale, losses times that for its amplitude
_SCALE, _AMPLITUDE = 0.3, 0.1
#: losses are told apart up to so many times the distance of the median from the lowest
_WORST = 5.0


class LossModel:
    """Foretells the loss of whole networks from that of some, on a scale of its own that rises with it.

    Args:
        widths: of the original network, ``(groups,)``.
        scored: ``(n, groups)`` widths of networks that were scored.
        losses: ``(n,)`` theirs, one or more of them finite; the others count as bad.
    """

    def __init__(self, widths: Vector, scored: Vector, losses: Losses) -> None:
        self._widths = widths
        self._centre = self._logarithms(scored).mean(axis=0)
        finite = losses[np.isfinite(losses)]
        above = finite - finite.min()
        unit = np.median(above) or above.max() or 1.0
        # almost linear among the better half; how bad the worst are does not matter
        targets = _AMPLITUDE * np.log1p(np.minimum((losses - finite.min()) / unit, _WORST))
        self._level = float(targets.mean())
        linear, position = self._columns(scored)
        blocks = np.minimum(np.arange(linear.shape[1]), 1)
        self._process = Process(linear, blocks, position, targets - self._level)

    def __call__(self, widths: Vector) -> Losses:
        """Return what stands for the expected losses of widths ``(m, groups)``: the higher, the higher they are."""
        return self._process.predict(*self._columns(widths))[0] + self._level

    def _logarithms(self, widths: Vector) -> Losses:
        """Return ``(m, groups)`` logarithms of the shares; a group whose block is gone counts as half a unit."""
        return np.asarray(np.log(np.maximum(widths, 0.5) / self._widths))

    def _columns(self, widths: Vector) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return linear columns (a constant, and one for each group) and the position."""
        logarithms = self._logarithms(widths) - self._centre
        linear = np.concatenate([np.ones((len(widths), 1)), logarithms], axis=1)
        return linear.astype(np.float32), (_SCALE * logarithms).astype(np.float32)


class ExchangeChooser:
    """ChooseNumFilters that improves on what one-shot chooses, within the same constraint.

    Asked from the original network, it passes on the other's choice: from so far away no estimate says that two
    networks cost the same. Asked again from there (see `remeasured.py`), it scores networks.

    Args:
        first: one-shot; its proposals are cut from the original network.
        groups: of the original network, in the column order of the estimators.
        estimators: by resource.
        loss: untuned, of the network of some widths ``(groups,)``; ``inf`` where it is not finite.
        networks: how many are scored for a constraint at most; where the same is asked again, one that is new to it.
        seed: of all draws.
    """

    def __init__(
        self,
        first: OneShotChooser,
        groups: Sequence[ChannelGroup],
        estimators: Mapping[str, Estimator],
        loss: Callable[[Vector], float],
        *,
        networks: int,
        seed: int,
    ) -> None:
        self._first: NumFilters = first
        self._options = first.options
        self._groups = tuple(groups)
        self._estimators = dict(estimators)
        self._loss = loss
        self._networks = networks
        self._seed = seed
        self._full = np.array([group.width for group in groups], dtype=np.int64)
        self._known: dict[tuple[int, ...], float] = {}
        self._wanted = 0  # so many networks are to be known
        self._constraint: dict[str, float] = {}
        self._draws = 0

    def proposals(
        self, widths: Mapping[str, int], resources: Mapping[str, float], constraint: Mapping[str, float]
    ) -> list[Proposal]:
        """Return the network of least loss among those that were scored and meet the constraint.

        Args:
            widths: of the current network, of which ``resources`` were measured.
            resources: see `netadapt.proposals.NumFilters`.
            constraint: see `netadapt.proposals.NumFilters`.

        Returns:
            One proposal; what one-shot says if asked from the original network, if that is the original network (then
            there is nothing to exchange), and if no loss is finite.
        """
        current = vector_of(self._groups, widths)
        found = self._first.proposals(widths, resources, constraint)
        starts = [vector_of(self._groups, proposal.widths) for proposal in found]
        if not found or any((each == self._full).all() for each in (current, *starts)):
            return found

        def feasible(rows: Vector) -> NDArray[np.bool_]:
            judged = judge(self._estimators, rows, current, resources, constraint)
            return np.asarray(judged.feasible & (rows < self._full).any(axis=1))

        self._search(starts, feasible, constraint)
        best = self._best(starts, feasible)
        if not math.isfinite(self._known[tuple(best.tolist())]):
            return found
        judged = judge(self._estimators, best[None], current, resources, constraint)
        return [judged.proposal(0, self._groups, self._full)]

    def _search(self, starts: Sequence[Vector], feasible: Feasible, constraint: Mapping[str, float]) -> None:
        """Score as many networks as are wanted for the constraint."""
        if dict(constraint) != self._constraint:
            self._constraint, self._wanted = dict(constraint), len(self._known) + self._networks
        for start in starts:
            self._know(start)
        rounds = max(1, self._wanted - len(self._known))
        for number in range(rounds):
            self._draws += 1
            best = self._best(starts, feasible)
            if number == rounds - 1:
                self._know(self._foretold(best, feasible))
            elif number < _DRAWN * rounds:
                self._know(self._drawn(starts[number % len(starts)], len(self._groups), feasible))
            else:
                foretold = self._foretold(best, feasible) if number % 2 else best
                known = tuple(foretold.tolist()) in self._known
                self._know(self._drawn(best, _NEAR, feasible) if known else foretold)

    def _know(self, widths: Vector) -> None:
        key = tuple(widths.tolist())
        if key not in self._known:
            self._known[key] = self._loss(widths)

    def _best(self, starts: Sequence[Vector], feasible: Feasible) -> Vector:
        """Return the network of least loss of those that are known and feasible; the starts are both."""
        rows, losses = self._all()
        order = rows[np.argsort(losses, kind="stable")]
        allowed = order[feasible(order)]
        return allowed[0] if len(allowed) else starts[0]

    def _foretold(self, best: Vector, feasible: Feasible) -> Vector:
        """Return the feasible network of which the least loss is expected; ``best`` if no loss is finite."""
        rows, losses = self._all()
        if not np.isfinite(losses).any() or not feasible(best[None])[0]:
            return best
        model = LossModel(self._full, rows, losses)
        return anneal(self._options, best, model, feasible, rounds=_ROUNDS, seed=[self._seed, self._draws])

    def _drawn(self, centre: Vector, exchanging: int, feasible: Feasible) -> Vector:
        """Return a network in which some groups differ from another one, as wide as is feasible; itself if none is."""
        random = np.random.default_rng([self._seed, self._draws])
        for _ in range(_DRAWS):
            moved = random.permutation(len(centre)) < exchanging
            wanted = centre * np.where(moved, np.exp(random.normal(0, _SPREAD, len(centre))), 1.0)
            scaled = np.where(moved, _FACTORS[:, None] * wanted, wanted)
            rows = np.stack([_nearest(o, scaled[:, k]) for k, o in enumerate(self._options)], axis=-1)
            allowed = rows[feasible(rows)]
            if len(allowed) and tuple(allowed[0].tolist()) not in self._known:
                return np.asarray(allowed[0])
        return centre

    def _all(self) -> tuple[Vector, Losses]:
        """Return widths ``(n, groups)`` and losses ``(n,)`` of all networks that were scored."""
        return np.array(list(self._known), dtype=np.int64), np.array(list(self._known.values()))


def _nearest(choices: Vector, widths: Losses) -> Vector:
    """Return the choice that is nearest to each of ``widths`` ``(m,)``; of two the narrower."""
    return np.asarray(choices[np.abs(choices - widths[:, None]).argmin(axis=1)])
