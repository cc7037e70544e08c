from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.errors import ModelError
from netadapt.network import trace

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Two convolutions and a classifier with something between them."""

    def __init__(self, between=None, channels: int = 8) -> None:
        super().__init__()
        self.between = between
        self.first, self.norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.second, self.fc = nn.Conv2d(channels, 12, 3, padding=1), nn.Linear(12, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        if self.between is not None:
            x = self.between(x)
        return self.fc(self.second(x).mean((2, 3)))


def reasons(network) -> dict[str, str]:
    return {p.layer: p.reason for p in network.pinned}


def names(network) -> list[str]:
    return [g.name for g in network.groups]


def test_a_plain_net_is_free_but_for_its_output():
    network = trace(Net(), IMAGE)
    assert names(network) == ["first", "second"]
    assert network.group("first").layers == ("first", "norm", "second")
    assert reasons(network) == {"fc": "its channels are the network's output"}


def test_the_users_module_and_the_process_are_untouched():
    model = Net().train()
    model.norm.eval()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    model.first.weight.grad = torch.ones_like(model.first.weight)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state, fast = torch.random.get_rng_state(), torch.backends.mha.get_fastpath_enabled()
    trace(model, IMAGE)
    assert model.training and not model.norm.training and not calls
    assert torch.equal(model.first.weight.grad, torch.ones_like(model.first.weight))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled() == fast and torch.is_grad_enabled()


def test_example_inputs_may_be_a_tuple_or_a_dict():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

        def forward(self, left, right):
            return self.c(self.a(left) + self.b(right))

    for inputs in ((IMAGE, IMAGE), {"left": IMAGE, "right": IMAGE}):
        network = trace(Two(), inputs)
        assert names(network) == ["a"] and network.group("a").layers == ("a", "b", "c")
        assert network.equals_masked({"a": [0, 4]}) < 1e-9


def test_keep_pins_what_the_user_names():
    network = trace(Net(), IMAGE, keep=["first"])
    assert names(network) == ["second"] and reasons(network)["first"] == "you asked to keep 'first'"
    with pytest.raises(ModelError, match=r"keep names 'frist', which is no module \(did you mean \"first\"\?\)"):
        trace(Net(), IMAGE, keep=["frist"])


# --- what cannot be proved is pinned, with a reason ---------------------------------------------------------------


class PadNet(Net):
    def __init__(self):
        super().__init__()
        self.side, self.second = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 12, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        return self.fc(self.second(F.relu(self.side(x) + F.pad(x, (0, 0, 0, 0, 4, 4)))).mean((2, 3)))


def test_padding_written_into_forward_pins_only_the_padded_channels():
    network = trace(PadNet(), IMAGE)
    assert names(network) == ["first", "second"]
    assert network.group("first").layers == ("first", "norm", "side", "second")
    says = "8 of its 16 channels: tied to the constant 4 in forward; removing its channels does not work: RuntimeError"
    assert says in reasons(network)["side"]
    assert network.pinned[0].where.startswith("test_trace.py:")


class AddConstant(nn.Module):
    def forward(self, x):
        return x + torch.linspace(0, 1, 8)[None, :, None, None]


BETWEEN = {
    "view to a constant": (lambda x: x.view(-1, 8, 64).mean(0, keepdim=True).view(1, 8, 8, 8) * 1.0, "RuntimeError"),
    "a view that doubles the batch": (lambda x: x.view(-1, 8, 8, 8) + 0, "RuntimeError"),
    "split": (lambda x: torch.cat(x.split([3, 5], 1), 1), "RuntimeError"),
    "slice": (lambda x: torch.cat([x[:, 4:], x[:, :4]], 1), "values differ"),
    "roll": (lambda x: x.roll(3, 1), "values differ"),
    "softmax": (lambda x: x.softmax(1), "softmax runs over channels"),
    "mean over channels": (lambda x: x - x.mean(1, keepdim=True), "mean runs over channels"),
    "norm of everything": (lambda x: x / x.norm(), "runs over channels"),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), "mixes the statistics"),
    "group norm of everything": (lambda x: F.group_norm(x, 1), "mixes the statistics"),
    "group norm with a constant": (lambda x: F.group_norm(x, 2), "values differ"),
    "gram matrix": (
        lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2))[:, :, :, None].expand(1, 8, 8, 8),
        "matmul",
    ),
    "no rule": (lambda x: torch.cummax(x, 3).values, "cummax, an operation without a rule"),
    "sort": (lambda x: x.sort(1).values, "sort runs over channels"),
    "pad": (lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)), "mirrors or crops"),
    "constant": (AddConstant(), "RuntimeError"),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_what_cannot_be_removed_is_pinned_with_a_reason(case):
    between, says = BETWEEN[case]
    network = trace(Net(between), IMAGE)
    assert "first" not in names(network) and "second" in names(network)
    assert says in reasons(network)["first"], reasons(network)
    network.verify_shrink(network.model, {"second": [0, 5, 7]})


def test_flat_sizes_written_into_forward_fail_the_proof_by_values():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(64, 2)

        def forward(self, x):
            return self.fc(self.first(x).reshape(-1, 64)).sum()  # half the channels: half as many rows, no error

    class Batch(Flat):
        def forward(self, x):
            return self.fc(self.first(x).view(x.shape[0], -1)[:, :64].mean(1, keepdim=True).expand(-1, 64))

    for model in (Flat(), Batch()):
        network = trace(model, IMAGE)
        assert not network.groups and "first" in reasons(network)


class Auxiliary(Net):
    def __init__(self, into: int = 8):
        super().__init__()
        self.aux = nn.Sequential(nn.Linear(into, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Linear(6, 4))

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        y = self.fc(self.second(x).mean((2, 3)))
        return (y, self.aux(self.look(x))) if self.training else y

    def look(self, x):
        return x.mean((2, 3))


def test_what_only_train_mode_uses_follows_but_stays_itself():
    network = trace(Auxiliary(), IMAGE)
    assert names(network) == ["first", "second"] and "aux.0" in network.group("first").layers
    assert reasons(network)["aux.0"] == "only train mode uses it"
    assert not network.unseen and network.proof.modes == ("eval", "train")
    small = network.shrink({"first": [1, 5]}).train()
    assert [y.shape[1] for y in small(torch.randn(2, 3, 8, 8))] == [4, 4]


def test_channels_that_a_training_branch_uses_otherwise_are_pinned():
    class Constant(Auxiliary):
        def look(self, x):
            return x.reshape(-1, 8, 64).mean(2)

    class Branching(Auxiliary):
        def look(self, x):
            return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))

    for model in (Constant(), Branching()):
        network = trace(model, IMAGE)
        assert names(network) == ["second"]
        assert "RuntimeError" in reasons(network)["first"]


def test_spatial_attention_is_pinned_but_not_what_it_weighs():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            return x * self.map(x).sigmoid().expand_as(x)

    network = trace(Net(Attention()), IMAGE)
    assert names(network) == ["first", "second"] and "broadcast" in reasons(network)["between.map"]


def test_self_attention_behind_a_norm_loses_heads_and_nothing_else():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)

        def forward(self, x):
            t = self.norm(x.flatten(2).transpose(1, 2))
            return self.attention(t, t, t)[0].transpose(1, 2).reshape(x.shape)

    network = trace(Net(Block()), IMAGE)
    assert network.widths == {"between.attention": 2, "second": 12}


def test_random_training_is_checked_by_shapes_only():
    class Noise(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5, training=self.training)

    network = trace(Net(Noise()), IMAGE)
    assert names(network) == ["first", "second"] and network.proof.modes == ("eval", "train, shapes only")
    assert trace(Net(nn.Dropout(0.5)), IMAGE).proof.modes == ("eval", "train")


def test_a_batch_that_cannot_change_is_said():
    network = trace(Net(lambda x: x.view(1, x.shape[1], 8, 8)), IMAGE)
    assert names(network) == ["first", "second"]
    assert network.proof.batch == 1 and "example's own inputs only: RuntimeError" in network.proof.notes[0]


# --- input that cannot work ---------------------------------------------------------------------------------------


def fails(says: str, model, inputs=IMAGE) -> None:
    with pytest.raises(ModelError) as caught:
        trace(model, inputs)
    for part in says.split("|"):
        assert part in str(caught.value)


def test_bad_input_gives_one_clear_error():
    class Branching(Net):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    class Locked(Net):
        def __init__(self):
            super().__init__()
            self.lock = threading.Lock()

    class Looking(Net):
        def forward(self, x):
            return super().forward(x * float(x.max().item()))

    broken = Net()
    broken.first.weight.data[0, 0, 0, 0] = float("nan")
    fails("looks at values of tensors at test_trace.py:|torch.where", Branching())
    fails(
        "fails on the example inputs ([1, 4, 8, 8] float32 on cpu)|test_trace.py:|shape", Net(), torch.zeros(1, 4, 8, 8)
    )
    fails("first.weight has 1 values that are NaN or infinite|sound checkpoint", broken)
    fails("cannot be deep-copied|locks", Locked())
    fails("not initialised yet", nn.Sequential(nn.LazyConv2d(4, 1)))
    fails("meta device", nn.Conv2d(3, 4, 1, device="meta"))
    fails("expected a torch.nn.Module, got function", lambda x: x)
    fails("holds no tensor", Net(), 3)
    fails("on meta) have no values|torch.zeros", Net(), torch.zeros(1, 3, 8, 8, device="meta"))
    with torch.no_grad():
        fails("plain Python module", nn.DataParallel(Net()))
    fails("looks at values of tensors at test_trace.py:|.item()", Looking())
