from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netadapt.adaptation.store import Store
from netadapt.adaptation.tools import key_of
from netadapt.algorithm import Candidate
from netadapt.network import Network, trace
from netadapt.proposals import Proposal
from netadapt.runs.config import make_config
from netadapt.runs.folder import RunFolder
from netadapt.scores import Score

PROPOSAL = Proposal(("0",), {"0": 8}, {"latency": 1.0}, {"latency": 0.1})


@pytest.fixture(scope="module")
def network() -> Network:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 4, 2)).eval()
    return trace(model, torch.zeros(1, 3, 4, 4))


@pytest.fixture
def told() -> list[tuple[str, Mapping[str, Any]]]:
    return []


@pytest.fixture
def store(network: Network, told: list[Any], tmp_path: Path) -> Iterator[Store]:
    config = make_config({"model": {"source": "x"}, "task": {"source": "y"}, "budget": {"latency": "50%"}})
    with RunFolder(tmp_path / "run", config) as folder:
        yield Store(folder, network, lambda type_, data: told.append((type_, data)))


def finish(store: Store, model: nn.Module | None, failed: str | None = None) -> str:
    key = key_of(1, PROPOSAL)
    score = None if model is None else Score(0.5, 1.0, 10)
    store.finish(key, 1, PROPOSAL, model, score, failed=failed, images=64, seconds=1.0)
    return key


def test_what_is_written_down_is_told(store: Store, told: list[Any]) -> None:
    store.record("iteration", {"iteration": 1, "constraint": {}, "proposals": []})
    assert [type_ for type_, _ in told] == ["iteration"]


def test_the_proposals_of_an_iteration_come_back(store: Store) -> None:
    assert store.proposals_of(1) is None
    from dataclasses import asdict

    store.record("iteration", {"iteration": 1, "constraint": {}, "proposals": [asdict(PROPOSAL)]})
    assert store.proposals_of(1) == [PROPOSAL]
    assert store.proposals_of(2) is None


def test_a_finished_proposal_comes_back_with_weights_and_score(store: Store, network: Network) -> None:
    model = network.shrink({"0": range(8)})
    key = finish(store, model)
    done = store.finished(key)
    assert done is not None
    restored = store.restore(Candidate(PROPOSAL, network.model, Score(0, 0)), done)
    assert restored is not None and restored.score == Score(0.5, 1.0, 10)
    assert all(torch.equal(a, b) for a, b in zip(restored.model.parameters(), model.parameters(), strict=True))
    assert network.widths_of(restored.model) == {"0": 8}
    assert store.images_of(1) == 64 and store.images_of(2) == 0


def test_a_failed_proposal_stays_failed(store: Store, network: Network) -> None:
    done = store.finished(finish(store, None, failed="the loss is NaN"))
    assert done is not None
    assert store.restore(Candidate(PROPOSAL, network.model, Score(0, 0)), done) is None


def test_keys_depend_on_iteration_groups_and_widths() -> None:
    other = Proposal(("0",), {"0": 16}, {}, {})
    assert len({key_of(1, PROPOSAL), key_of(2, PROPOSAL), key_of(1, other)}) == 3
    assert key_of(7, PROPOSAL).startswith("007-")


def test_checkpoints_lie_inside_the_run_until_they_are_dropped(store: Store) -> None:
    path = store.checkpoint("long-003")
    path.mkdir()
    assert path.is_relative_to(store.folder.path)
    store.drop_checkpoints()
    assert not path.exists()
