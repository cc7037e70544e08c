"""Programs for converters: hashed by structure and by content, free of subnormal numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import PlatformError
from netadapt.export.program import content_hash, graph_hash, to_program


def network(seed=0, width=4, activation=nn.ReLU):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), activation(), nn.Flatten())


IMAGES = torch.ones(1, 3, 4, 4)


def test_the_structure_is_all_but_the_weights():
    hashes = [
        graph_hash(to_program(model, images)[0])
        for model, images in (
            (network(), IMAGES),
            (network(seed=1), IMAGES),
            (network(activation=nn.ReLU6), IMAGES),
            (network(), torch.ones(2, 3, 4, 4)),
        )
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_the_content_is_the_weights_too():
    first, again, other, wider = (
        content_hash(to_program(model, IMAGES)[0]) for model in (network(), network(), network(1), network(width=5))
    )
    assert first == again
    assert len({first, other, wider}) == 3


def test_the_expected_outputs_are_those_of_eval_mode():
    model = network().train()
    model[1].running_mean.fill_(0.5)
    _, (outputs,) = to_program(model, IMAGES)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(outputs), model.eval()(IMAGES))


def test_subnormal_weights_become_zero():
    model = network()
    with torch.no_grad():
        model[0].weight[0] = 1e-41
        model[1].weight[1] = -1e-30
        model[0].bias.fill_(1e-10)
    program, _ = to_program(model, IMAGES)
    weights = {name.removeprefix("network."): tensor for name, tensor in program.state_dict.items()}
    assert not weights["0.weight"][0].any()
    assert weights["0.weight"][1].any()
    assert weights["1.weight"][1] == 0
    assert (weights["0.bias"] == 1e-10).all()
    assert (model[0].weight[0] > 0).all()


class Branch(nn.Module):
    def forward(self, images):
        return images + 1 if images.sum() > 0 else images


def test_what_cannot_be_traced_is_the_users_error():
    with pytest.raises(PlatformError, match=r"torch\.export cannot trace"):
        to_program(Branch(), IMAGES)
    with pytest.raises(PlatformError, match="cannot be copied and run"):
        to_program(network(), torch.ones(1, 5, 4, 4))
