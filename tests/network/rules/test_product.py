"""Products of activations: whole heads go, exactly; what is summed over or mixed stays, with a reason."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.network import trace

TOKENS = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(1))


def check_exact(network, sets: int = 3) -> None:
    """Compare random kept sets with the masked original, and the algebra with what was really built."""
    rng = np.random.default_rng(0)
    for _ in range(sets):
        counts = {g.name: int(rng.integers(1, g.width + 1)) for g in network.groups}
        kept = {g.name: sorted(rng.choice(g.width, counts[g.name], replace=False).tolist()) for g in network.groups}
        assert network.equals_masked(kept) < 1e-9
        small = network.shrink(kept)
        assert sum(p.numel() for p in small.parameters()) == network.parameters(counts)
        again = trace(small, network.example_inputs, prove=False)
        assert again.macs() == network.macs(counts)


class Attention(nn.Module):
    """As in most vision transformers: one linear layer for queries, keys and values, sizes in attributes."""

    def __init__(self, how, heads: int = 4, size: int = 3, **options) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.inner, self.how = heads, size, heads * size, how
        self.qkv, self.proj = nn.Linear(6, 3 * heads * size), nn.Linear(heads * size, 5)
        self.norm = options.get("norm", nn.Identity)(size)
        self.bias = nn.Parameter(torch.randn(options.get("bias", (1,))))
        self.temperature = nn.Parameter(torch.rand(heads, 1, 1))
        self.register_buffer("places", torch.arange(49).reshape(7, 7) % 9)
        self.mix = nn.Linear(heads, heads)

    def forward(self, x):
        n, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = self.how(self, self.norm(q), self.norm(k), v)
        return self.proj(x.transpose(1, 2).reshape(n, length, self.inner))


def plain(module, q, k, v):
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v


def fused(module, q, k, v):
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3)


def einsum(module, q, k, v):
    scores = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
    return torch.einsum("b h i j, b h j d -> b h i d", scores, v)


def per_head_bias(module, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=module.bias.unsqueeze(0))


def bias_table(module, q, k, v):
    bias = module.bias[module.places.view(-1)].view(7, 7, -1).permute(2, 0, 1).contiguous()
    return (q @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1) @ v


def bias_row(module, q, k, v):
    return (q @ k.transpose(-2, -1) + module.bias[:, module.places]).softmax(-1) @ v


def cosine(module, q, k, v):
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (scores * module.temperature.clamp(max=4.0).exp()).softmax(-1) @ v


def over_channels(module, q, k, v):
    scores = (F.normalize(q, dim=-2).transpose(-2, -1) @ F.normalize(k, dim=-2)) * module.temperature
    return (scores.softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)


def linear_attention(module, q, k, v):
    return q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v)


def rotary(module, q, k, v):
    angle = torch.arange(7.0)[:, None] * torch.tensor([1.0, 0.1])  # no parameter, no buffer: a constant
    sin, cos = angle.sin(), angle.cos()

    def turn(x):
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(3)

    return F.scaled_dot_product_attention(turn(q), turn(k), v)


HEADS = {
    "plain": (plain, {}),
    "fused with mask and scale": (fused, {}),
    "einsum": (einsum, {}),
    "as many heads as places in a head": (plain, {"heads": 4, "size": 4}),
    "layer norm within heads": (plain, {"norm": nn.LayerNorm}),
    "bias per head": (per_head_bias, {"bias": (4, 7, 7)}),
    "bias from a table": (bias_table, {"bias": (9, 4)}),
    "bias from a row": (bias_row, {"bias": (4, 9)}),
    "cosine with temperatures": (cosine, {}),
    "over channels": (over_channels, {}),
    "linear attention": (linear_attention, {}),
    "rotary positions": (rotary, {"size": 4}),
}


@pytest.mark.parametrize("case", HEADS)
def test_whole_heads_are_removed_exactly(case):
    how, options = HEADS[case]
    network = trace(Attention(how, **options), TOKENS)
    assert network.widths == {"qkv": 4}, network.pinned
    check_exact(network, 1)


def test_talking_heads_are_units_of_their_own():
    def talking(module, q, k, v):
        scores = module.mix((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return scores.softmax(-1) @ v.mean(1, keepdim=True).expand(-1, scores.shape[1], -1, -1)

    network = trace(Attention(talking), TOKENS)
    assert "mix" in {layer for group in network.groups for layer in group.layers} or network.pinned
    check_exact(network, 1)


def test_grouped_queries_leave_with_their_key():
    class Grouped(nn.Module):
        def __init__(self, fused):
            super().__init__()
            self.q, self.kv, self.proj, self.fused = (
                nn.Linear(6, 8 * 3),
                nn.Linear(6, 2 * 4 * 3),
                nn.Linear(24, 5),
                fused,
            )

        def forward(self, x):
            n, length, _ = x.shape
            q = self.q(x).view(n, length, -1, 3).transpose(1, 2)
            k, v = self.kv(x).view(n, length, 2, -1, 3).permute(2, 0, 3, 1, 4)
            if self.fused:
                x = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            else:
                x = plain(self, q, *(t.repeat_interleave(2, 1) for t in (k, v)))
            return self.proj(x.transpose(1, 2).flatten(2))

    for fused in (True, False):
        network = trace(Grouped(fused), TOKENS)
        assert network.widths == {"q": 4}
        check_exact(network, 1)


class Wrapped(nn.Module):
    """`nn.MultiheadAttention` behind a linear layer, sequence first or second, on itself or on something else."""

    def __init__(self, first: bool, cross: bool, weights: bool, **options) -> None:
        super().__init__()
        self.embed, self.weights, self.cross = nn.Linear(6, 12), weights, cross
        self.attention = nn.MultiheadAttention(12, 4, dropout=0.1, batch_first=first, **options)
        self.out = nn.Linear(12, 3)

    def forward(self, x, memory):
        x = self.embed(x)
        memory = memory if self.cross else x
        mask = torch.zeros(7, 7, dtype=x.dtype).masked_fill(torch.eye(7) > 0, -9.0)
        y, _ = self.attention(x, memory, memory, need_weights=self.weights, attn_mask=mask)
        return self.out(y)


MODULES = list(itertools.product((True, False), (True, False), (True, False)))


@pytest.mark.parametrize("first, cross, weights", MODULES)
def test_multihead_attention_loses_heads(first, cross, weights):
    size = 5 if weights and cross else 12
    options = {"kdim": 5, "vdim": 5} if size == 5 else {}
    memory = torch.randn(2, 7, size)
    inputs = (TOKENS, memory) if first else (TOKENS.transpose(0, 1), memory.transpose(0, 1))
    model = Wrapped(first, cross, weights, **options)
    network = trace(model, inputs)
    assert network.widths["attention"] == 4 and "train" in network.proof.modes
    check_exact(network, 1)


def test_multihead_attention_with_all_its_options():
    options = {"bias": False, "add_bias_kv": True, "add_zero_attn": True}
    network = trace(Wrapped(True, True, False, **options), (TOKENS, torch.randn(2, 7, 12)))
    assert network.widths["attention"] == 4
    check_exact(network, 1)
    network = trace(Wrapped(True, True, True, **options), (TOKENS, torch.randn(2, 7, 12)))
    check_exact(network, 1)


@pytest.mark.parametrize("norm_first", [True, False])
def test_torch_encoder_and_decoder_layers(norm_first):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            options = {"dim_feedforward": 10, "batch_first": True, "norm_first": norm_first}
            self.embed = nn.Linear(6, 8)
            self.encoder = nn.TransformerEncoderLayer(8, 4, activation="gelu", **options)
            self.decoder = nn.TransformerDecoderLayer(8, 2, **options)
            self.out = nn.Linear(8, 3)

        def forward(self, x):
            x = self.embed(x)
            return self.out(self.decoder(x, self.encoder(x)))

    network = trace(Both(), TOKENS)
    assert network.widths == {
        "encoder.self_attn": 4,
        "encoder.linear1": 10,
        "decoder.self_attn": 2,
        "decoder.multihead_attn": 2,
        "decoder.linear1": 10,
    }
    check_exact(network, 1)


def test_one_head_and_gram_matrices_stay():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.out((self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x))

    network = trace(Single(), TOKENS)
    assert network.widths == {"v": 8}
    assert "sums products of activations" in {p.layer: p.reason for p in network.pinned}["q"]
    check_exact(network, 1)


def test_weights_of_any_rank():
    class PerHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.kv = nn.Parameter(torch.randn(6, 4, 3)), nn.Parameter(torch.randn(2, 6, 4, 3))
            self.each, self.out = nn.Parameter(torch.randn(4, 3, 3)), nn.Parameter(torch.randn(4, 3, 5))

        def forward(self, x):
            q = torch.einsum("bnc,chd->bhnd", x, self.q)
            k, v = (torch.einsum("bnc,chd->bhnd", x, w) for w in self.kv.unbind(0))
            return torch.einsum("bhnd,hdc->bnc", plain(self, q, k, v @ self.each), self.out)

    network = trace(PerHead(), TOKENS)
    assert network.widths == {"q": 4}
    check_exact(network, 1)
