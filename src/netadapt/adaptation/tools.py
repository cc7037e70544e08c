"""The sub-routines of Algorithm 1 for a real network: what a run gives `algorithm.py`.

Every finished proposal is journalled after its weights are on disk, so that a resumed run redoes nothing. Called by
`adaptation.py` only.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from torch import nn

from netadapt.adaptation.metering import Metering
from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner
from netadapt.algorithm import Candidate, Step, rank
from netadapt.errors import NonFinite
from netadapt.network.importance import FilterChoice
from netadapt.proposals import NumFilters, Proposal, gentlest, merge, partial
from netadapt.runs.settings import SearchSection
from netadapt.scores import Score
from netadapt.training.loop import Recipe

log = logging.getLogger("netadapt")

#: a short-term fine-tune whose loss became NaN or infinite is tried once more at this part of its learning rate
_RETRY_RATE = 0.1


class SearchTools:
    """The sub-routines of Algorithm 1 (see `netadapt.algorithm.Tools`).

    Args:
        chooser: ChooseNumFilters.
        filters: ChooseWhichFilters.
        tuner: fine-tunes and scores modules on the task.
        metering: measures on the platform, counts, and keeps the estimators up to date.
        store: journal and files of the run.
        search: mode, pick rule, contenders.
        recipe: of the short-term fine-tune; ``None`` for none.
        cut_from: the network that proposals are cut from; ``None`` for that of the last step (the paper).
    """

    def __init__(
        self,
        chooser: NumFilters,
        filters: FilterChoice,
        tuner: Tuner,
        metering: Metering,
        store: Store,
        search: SearchSection,
        recipe: Recipe | None,
        cut_from: nn.Module | None = None,
    ) -> None:
        self.chooser = chooser
        self.filters = filters
        self.tuner = tuner
        self.metering = metering
        self.store = store
        self.search = search
        self.recipe = recipe
        self.cut_from = cut_from
        self._began = time.monotonic()
        self._constraint: Mapping[str, float] = {}

    def choose_num_filters(self, net: Step, constraint: Mapping[str, float]) -> Sequence[Proposal]:
        """Return new proposals, or those that an interrupted iteration had written down."""
        self._began = time.monotonic()
        self.tuner.reset()
        iteration = net.iteration + 1
        found = self.store.proposals_of(iteration)
        self._constraint = constraint
        if found is None:
            each = partial(net.resources, constraint, self.search.groups_per_step)
            found = self.chooser.proposals(net.widths, net.resources, each)
            if not found:
                return found
            written = {"iteration": iteration, "constraint": dict(constraint), "proposals": [asdict(p) for p in found]}
            self.store.record("iteration", written)
        return found

    def choose_which_filters(self, net: Step, proposals: Sequence[Proposal], tightened: str) -> Iterator[Candidate]:
        """Yield the networks to be tuned: all of them in faithful mode, the most promising ones in fast mode."""
        self.filters.prepare(self._source(net))
        if self.search.mode == "faithful":
            for proposal in proposals:
                yield Candidate(proposal, self._simplify(net, proposal), net.score)
        else:
            yield from self._contenders(net, proposals, tightened)

    def short_term_fine_tune(self, net: Step, candidate: Candidate) -> Candidate | None:
        """Tune, score and journal a candidate; a non-finite loss is tried once more, more slowly."""
        iteration, proposal = net.iteration + 1, candidate.proposal
        key = key_of(iteration, proposal)
        if (done := self.store.finished(key)) is not None:
            return self.store.restore(candidate, done)
        began = time.monotonic()
        images_before = self.tuner.training_images
        tuned, failed = self._tune(candidate.model, key)
        score = self.tuner.score(tuned) if tuned is not None else None
        self.store.finish(
            key,
            iteration,
            proposal,
            tuned,
            score,
            failed=failed,
            images=self.tuner.training_images - images_before,
            seconds=time.monotonic() - began,
        )
        return None if tuned is None or score is None else Candidate(proposal, tuned, score)

    def take_empirical_measurement(self, net: Step, winner: Candidate) -> Step:
        """Measure the winner end to end, teach the estimators, and write the step down.

        Raises:
            SurgeryError: what was cut off does not equal the masked network before the cut; checked at every step.
        """
        proposal, network = winner.proposal, self.metering.network
        kept = network.kept_of(winner.model)
        network.verify_shrink(self._source(net), {group: kept[group] for group in proposal.groups})
        measurement, resources = self.metering.measure(winner.model, proposal.widths)
        step = Step(
            iteration=net.iteration + 1,
            model=winner.model,
            widths=proposal.widths,
            resources=resources,
            score=winner.score,
            groups=proposal.groups,
            estimated=proposal.estimated,
        )
        _, forward_images = self.tuner.reset()
        self.store.finish_step(
            step,
            measurement,
            {
                "training_images": self.store.images_of(step.iteration),
                "forward_images": forward_images,
                "seconds": time.monotonic() - self._began,
            },
        )
        return step

    def _source(self, net: Step) -> nn.Module:
        return net.model if self.cut_from is None else self.cut_from

    def _simplify(self, net: Step, proposal: Proposal) -> nn.Module:
        """ChooseWhichFilters: shrink the groups of ``proposal``; weights and statistics follow."""
        kept = {group: self.filters.choose(group, proposal.widths[group]) for group in proposal.groups}
        return self.filters.apply(kept)

    def _contenders(self, net: Step, proposals: Sequence[Proposal], tightened: str) -> list[Candidate]:
        """Score proposals untuned and return the best few, or one that several groups share."""
        if self.search.groups_per_step == 1:
            return self._best(net, proposals, tightened, self.search.contenders)
        ranked = self._best(net, proposals, tightened, len(proposals), weights=False)
        together = self._together(net, [candidate.proposal for candidate in ranked])
        if all(together.estimated[name] <= limit for name, limit in self._constraint.items()):
            return [self._scored(net, together)]
        # the groups that can make a share of the step cannot make all of it, one that is cut deeper may
        alone = self.chooser.proposals(net.widths, net.resources, self._constraint)
        return self._best(net, alone, tightened, 1) if alone else [self._scored(net, together)]

    def _best(
        self, net: Step, proposals: Sequence[Proposal], tightened: str, count: int, *, weights: bool = True
    ) -> list[Candidate]:
        """Return the best ``count`` of ``proposals``, ordered as the pick rule would by untuned loss."""
        by_loss = replace(net, score=_by_loss(net.score))
        best: list[Candidate] = []
        # pairs, which come where no single group can make the step, are far too many to be scored all
        for proposal in gentlest(proposals, net.widths, most=len(net.widths)):
            candidate = self._scored(net, proposal)
            # where only the order counts the weights of all would fill the memory
            best.append(candidate if weights else replace(candidate, model=net.model))
            best.sort(key=lambda c: rank(replace(c, score=_by_loss(c.score)), by_loss, tightened, self.search.pick))
            del best[count:]
        return best

    def _scored(self, net: Step, proposal: Proposal) -> Candidate:
        model = self._simplify(net, proposal)
        score = self.tuner.score(model)
        told = {"iteration": net.iteration + 1, "group": proposal.name, "widths": dict(proposal.widths)}
        self.store.tell("scored", told | asdict(score))
        return Candidate(proposal, model, score)

    def _together(self, net: Step, ranked: Sequence[Proposal]) -> Proposal:
        """Return as many of the best proposals as the step needs, as one."""
        estimators = {name: self.metering.estimators[name] for name in self._constraint}
        groups = self.metering.network.groups
        return merge(ranked, groups, estimators, net.widths, net.resources, self._constraint)

    def _tune(self, model: nn.Module, key: str) -> tuple[nn.Module | None, str | None]:
        """Return the tuned module, or the reason why it failed twice."""
        if self.recipe is None:
            return model, None
        failed = None
        for lr in (self.recipe.lr, self.recipe.lr * _RETRY_RATE):
            attempt = copy.deepcopy(model)
            try:
                self.tuner.tune(attempt, replace(self.recipe, lr=lr), key)
                return attempt, None
            except NonFinite as error:
                failed = str(error)
                log.warning("proposal %s at a learning rate of %g: %s", key, lr, error)
        return None, failed


def key_of(iteration: int, proposal: Proposal) -> str:
    """Return the deterministic name of a unit of work: the iteration, and a hash of groups and widths."""
    content = repr((proposal.groups, sorted(proposal.widths.items()))).encode()
    return f"{iteration:03d}-{hashlib.sha256(content).hexdigest()[:12]}"


def _by_loss(score: Score) -> Score:
    """Return a score whose metric is its loss: untuned accuracies are too coarse to compare."""
    return replace(score, metric=-score.loss)
