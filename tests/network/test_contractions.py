"""Rows taken from a call times its weights must give its output, for every kind of layer and padding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.network.contractions import Contraction, Watch

CASES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(3, 5, 3, 2, 1), (4, 3, 9, 8)),
    "same": (nn.Conv2d(3, 5, (2, 4), padding="same", bias=False), (2, 3, 7, 6)),
    "valid": (nn.Conv2d(3, 5, 3, padding="valid", dilation=2), (2, 3, 7, 6)),
    "circular": (nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (2, 3, 7, 6)),
    "pointwise": (nn.Conv2d(3, 5, 1, 2), (2, 3, 7, 6)),
    "conv1d": (nn.Conv1d(3, 5, 4, 3, 2), (2, 3, 20)),
    "conv3d": (nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 1)), (2, 2, 4, 5, 6)),
    "one image": (nn.Conv2d(3, 5, 3), (3, 7, 6)),
    "linear": (nn.Linear(6, 4), (5, 6)),
    "tokens": (nn.Linear(6, 4, bias=False), (5, 7, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_rows_times_weights_are_the_output(name: str) -> None:
    layer, shape = CASES[name]
    layer, x = layer.double(), torch.randn(shape, dtype=torch.float64)
    seen: list[Contraction] = []

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        seen.append(call)
        output = compute()
        rows = torch.arange(0, call.rows, 3)
        inputs = torch.cat(list(call.input_rows(rows)))
        expected = inputs @ call.weight.flatten(1).T + (0 if call.bias is None else call.bias)
        outputs = output if output.dim() == call.input.dim() else output[None]
        assert torch.allclose(call.output_rows(outputs, rows), expected)
        assert call.rows == output.numel() // call.weight.shape[0]
        return output

    with torch.no_grad(), Watch({"weight": layer.weight}, visit):
        layer(x)
    assert [call.weight_name for call in seen] == ["weight"]


def test_calls_are_found_by_their_weight_and_counted() -> None:
    shared, other = torch.randn(4, 4, 1, 1), torch.randn(4, 4, 1, 1)
    seen = []

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        seen.append((call.weight_name, call.number))
        return compute()

    with Watch({"shared": shared}, visit):
        x = F.conv2d(torch.randn(2, 4, 3, 3), weight=shared)
        x = F.conv2d(x, other)
        F.conv2d(x, shared, groups=1)
        F.conv2d(x, torch.randn(4, 1, 1, 1), groups=4)
    assert seen == [("shared", 0), ("shared", 1)]


def test_grouped_convolutions_pass_unseen() -> None:
    layer = nn.Conv2d(4, 4, 3, groups=2)

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        raise AssertionError(call)

    with torch.no_grad(), Watch({"weight": layer.weight}, visit):
        layer(torch.randn(1, 4, 5, 5))


def test_batch_norms_use_the_statistics_of_the_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(6, 3, 5, 5) * 3 + 1
    watch = Watch({name: p for name, p in model.named_parameters() if p.dim() == 4}, lambda call, compute: compute())
    norm = model[1]
    with torch.no_grad():
        with watch:
            y = model(x)
        inner = F.batch_norm(model[0](x), None, None, norm.weight, norm.bias, training=True)
        assert torch.allclose(y, model[2](inner), atol=1e-5)
    assert watch.normalised == {"0.weight"}
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert not norm.training


def test_a_norm_of_a_single_value_is_left_to_its_own_statistics() -> None:
    norm = nn.BatchNorm1d(3).eval()
    with torch.no_grad(), Watch({}, lambda call, compute: compute()):
        assert norm(torch.ones(1, 3)).isfinite().all()
