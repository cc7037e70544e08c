from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.network.labels import Atoms, compact, none, reshape, spread, tidy, varying, vector

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@st.composite
def labelled(draw):
    """Labels that change along some dimensions only, as a stride-0 tensor."""
    shape = draw(SIZES)
    inner = [size if draw(st.booleans()) else 1 for size in shape]
    return torch.arange(int(np.prod(inner))).reshape(inner).expand(shape)


@st.composite
def labels_and_shape(draw):
    labels = draw(labelled())
    rest, shape = labels.numel(), []
    while rest > 1:
        size = draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
        shape.append(size)
        rest //= size
    return labels, shape


@settings(deadline=None, max_examples=40)
@given(labels_and_shape())
def test_reshape_equals_that_of_the_materialised_tensor(case):
    labels, shape = case
    result, _ = reshape(labels, shape)
    assert torch.equal(result, labels.contiguous().reshape(shape))


@settings(deadline=None, max_examples=40)
@given(labelled())
def test_tidy_changes_nothing_but_strides(labels):
    dense = labels.contiguous()
    assert torch.equal(tidy(dense), dense)
    assert varying(tidy(dense)) == varying(labels)


def test_huge_activations_cost_no_memory():
    labels = spread(torch.arange(64).reshape(1, 64, 1, 1), (256, 64, 4096, 4096))
    split, layouts = reshape(labels, (256, 2, 32, 4096 * 4096))
    assert compact(split).numel() == 64
    assert layouts[0].shape == (2, 32, 1) and layouts[0][:, 0, 0].tolist() == [0, 32]
    merged, layouts = reshape(split, (256, 64, 4096, 4096))
    assert torch.equal(compact(merged), compact(labels)) and not layouts


def test_vector_is_the_labels_of_one_dimension():
    labels = spread(torch.arange(3).reshape(1, 3, 1), (2, 3, 4))
    assert vector(labels, 1).tolist() == [0, 1, 2]
    assert vector(labels, -1) is None
    assert vector(none((2, 3)), 1).tolist() == [-1, -1, -1]


def test_atoms_are_made_once_and_ties_skip_no_atom():
    atoms = Atoms()
    first = atoms.axis("a.weight", 0, 4)
    assert torch.equal(atoms.axis("a.weight", 0, 4, "output"), first)
    assert atoms.slot("a.weight", 0).role == "output" and atoms.slot("a.weight", 1) is None
    atoms.tie(first, torch.tensor([-1, 0, 0, -1]))
    assert [side.tolist() for side in atoms.edges[0]] == [[1, 2], [0, 0]]
    atoms.axis("a.weight", 0, 4, "input")
    assert "both an input and an output" in atoms.pins[0].reason
