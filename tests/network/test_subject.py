from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.errors import ModelError
from netadapt.network import trace
from netadapt.network.subject import clean_copy

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
            elif self.how == "numpy":
                self.conv.weight.numpy()[:] = 0
            elif self.how == "out":
                torch.add(self.conv.bias, 1, out=self.conv.bias)
            self.calls += 1
        return self.head(F.relu(self.conv(x), inplace=True))


@pytest.mark.parametrize("how", ["", "in place", "data", "numpy", "out"])
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


class Caching(nn.Module):
    """Keeps a table that it makes when it first runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.table = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[-1])
        return self.head(F.relu(self.conv(x + self.table)))


def test_a_model_that_keeps_something_when_it_first_runs_is_traced_and_stays_as_it_was():
    model = Caching()
    assert trace(model, IMAGE).widths == {"conv": 8} and model.table is None


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(10, 4), nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.b(F.relu(self.a(self.table(tokens))))


def test_what_only_a_real_run_shows_is_said():
    assert trace(Tokens(), torch.tensor([[1, 9]])).widths == {"table": 4, "a": 8}
    with pytest.raises(ModelError, match=r"fails on the example inputs \(\[1, 2\] int64 on cpu\) at test_subject.py:"):
        trace(Tokens(), torch.tensor([[1, 10]]))
