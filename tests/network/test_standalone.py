from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from netadapt.network.standalone import FewerHeads, set_sizes

BATCH, QUERIES, KEYS, HEADS, FEATURES = 2, 5, 4, 3, 12


def attention(**options) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(FEATURES, HEADS, **options).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def as_fewer_heads(module: nn.MultiheadAttention) -> nn.MultiheadAttention:
    """Return the module with the forward that it has after a removal, all heads still there."""
    set_sizes(module, {"num_heads": HEADS})
    assert type(module) is FewerHeads
    return module


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"batch_first": True}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 7, "vdim": 9}],
    ids=str,
)
def test_it_computes_what_torch_s_attention_does(options, average, need_weights):
    theirs, ours = attention(**options), as_fewer_heads(attention(**options))
    kdim, vdim = options.get("kdim", FEATURES), options.get("vdim", FEATURES)
    inputs = [torch.randn(BATCH, n, f).double() for n, f in ((QUERIES, FEATURES), (KEYS, kdim), (KEYS, vdim))]
    if not options.get("batch_first"):
        inputs = [x.transpose(0, 1) for x in inputs]
    told = {"need_weights": need_weights, "average_attn_weights": average}
    for expected, got in zip(theirs(*inputs, **told), ours(*inputs, **told), strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            torch.testing.assert_close(got, expected)


def test_masks_of_all_kinds_and_inputs_without_a_batch():
    theirs, ours = attention(), as_fewer_heads(attention())
    x, y = torch.randn(QUERIES, FEATURES).double(), torch.randn(KEYS, FEATURES).double()
    torch.testing.assert_close(ours(x, y, y), theirs(x, y, y))
    queries, keys = (t[:, None].expand(-1, BATCH, -1) for t in (x, y))
    hidden = torch.zeros(QUERIES, KEYS, dtype=torch.bool)
    hidden[:, 1] = True
    padding = torch.zeros(BATCH, KEYS, dtype=torch.bool)
    padding[1, 3] = True
    by_head = torch.randn(BATCH * HEADS, QUERIES, KEYS).double()
    for mask, padded in itertools.product((None, hidden, by_head), (None, padding)):
        if mask is by_head and padded is not None:
            continue  # torch warns of masks of two kinds
        told = {"attn_mask": mask, "key_padding_mask": padded}
        torch.testing.assert_close(ours(queries, keys, keys, **told), theirs(queries, keys, keys, **told))


def test_only_sizes_are_set():
    with pytest.raises(ValueError, match=r"Linear\.weight is not a size"):
        set_sizes(nn.Linear(2, 3), {"weight": 3})
    with pytest.raises(ValueError, match=r"Linear\.heads is not a size"):
        set_sizes(nn.Linear(2, 3), {"heads": 3})
