"""Hashes of tensors and of what holds them."""

from __future__ import annotations

import copy

import torch

from netadapt.digests import digest_of


def test_a_digest_tells_values_shapes_types_and_places_apart() -> None:
    x = torch.arange(6.0)
    values = [
        [x], [x.reshape(2, 3)], [x.int()], [x + 1], [x, x], [[x], x], {"a": x}, {"b": x}, [torch.tensor(1.0)],
        [torch.zeros(0)], [x.bfloat16()], [x, 1], [x, 2],
    ]  # fmt: skip
    digests = [digest_of(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digests == [digest_of(copy.deepcopy(value)) for value in values]
    assert digest_of([x.reshape(2, 3).t().contiguous().t()]) == digest_of([x.reshape(2, 3)])  # not how memory lies


def test_there_is_no_digest_of_what_cannot_be_compared() -> None:
    assert digest_of([torch.ones(2), object()]) is None
