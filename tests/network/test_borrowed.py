from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.network import trace
from netadapt.network.borrowed import Watch, Written, clean_copy

IMAGE = torch.randn(1, 3, 8, 8)


class Writes(nn.Module):
    """Changes its own parameters whenever it runs."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how, self.conv, self.head = how, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            if self.how == "in place":
                self.conv.weight.mul_(0.5)
            elif self.how == "data":
                self.conv.weight.data.view(-1)[0] = 7.0
            elif self.how == "caught":
                with contextlib.suppress(Written):
                    self.conv.weight.add_(1)
            elif self.how == "out":
                torch.add(self.conv.bias, 1, out=self.conv.bias)
            self.calls += 1
        return self.head(F.relu(self.conv(x), inplace=True))


@pytest.mark.parametrize("how", ["", "in place", "data", "caught", "out"])
def test_the_users_module_is_untouched_whatever_forward_writes_to(how):
    model = Writes(how).train()
    model.conv.weight.requires_grad_(False)
    model.head.weight.grad = torch.ones_like(model.head.weight)
    hook = model.conv.register_forward_hook(lambda *_: pytest.fail("a hook of the user's was run"))
    before = {
        name: (id(t), t.data_ptr(), t._version, t.clone()) for name, t in model.state_dict(keep_vars=True).items()
    }
    try:
        network = trace(model, IMAGE)
    except ModelError:
        assert how  # torch.export refuses some of them
    else:
        assert network.model is model
    for name, t in model.state_dict(keep_vars=True).items():
        assert before[name][:3] == (id(t), t.data_ptr(), t._version) and torch.equal(before[name][3], t), name
    assert model.training and model.conv.training and hook.id in model.conv._forward_hooks
    assert not model.conv.weight.requires_grad and model.head.weight.requires_grad
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight)) and model.conv.bias.grad is None


def test_a_borrowing_copy_shares_parameters_and_nothing_else():
    model = Writes().train()
    model.again = model.conv
    one, other = clean_copy(model, borrow=True), clean_copy(model, borrow=False)
    assert one.conv.weight.data_ptr() == model.conv.weight.data_ptr() != other.conv.weight.data_ptr()
    assert one.conv.weight is not model.conv.weight and one.again.weight is one.conv.weight
    assert one.calls.data_ptr() != model.calls.data_ptr() and not one.training and model.training


def test_a_watch_stops_writing_only():
    watched, free = torch.ones(4), torch.ones(4)
    with Watch([watched]) as watch:
        free.add_(watched.view(2, 2).sum())
        assert not watch.written
        with pytest.raises(Written):
            watched.view(2, 2)[0].zero_()
    assert watch.written and torch.equal(watched, torch.ones(4)) and free[0] == 5
