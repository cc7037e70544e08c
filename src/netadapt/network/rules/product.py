"""Products: matmul, einsum and attention, of activations with each other or with a weight of any rank.

Along dimensions that both factors and the result have (heads), units are tied one to one. What is summed over can only
be removed where one factor is a weight; the sum of two activations' products would change, so there a unit goes with
all that it sums over (whole heads) or stays. Dimensions that only one factor has carry its units on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.elementwise import add_parameter, meet
from netadapt.network.rules.registry import rule

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@rule("matmul mm bmm")
def matmul(op: Operation) -> Value:
    """Multiply the last dimension of the first factor with the last but one of the second."""
    first, second = op.value("self"), op.value("other" if op.name == "matmul" else "mat2")
    return product(op, first, second, _matrix_terms(len(first.shape), len(second.shape)), op.shape)


@rule("baddbmm")
def biased(op: Operation) -> Value:
    """Add a bias to a product, both possibly scaled."""
    first, second = op.value("batch1"), op.value("batch2")
    return meet(op, product(op, first, second, ("abk", "akc", "abc"), op.shape), op.labels("self"))


@rule("einsum")
def einsum(op: Operation) -> Value:
    """Sum one operand or the products of two; a letter may occur once in each of them."""
    operands = op.value("tensors")
    terms = _einsum_terms(str(op.args["equation"]), [len(v.shape) for v in operands])
    if terms is None or len(operands) > 2:
        return op.pin_all("einsum with more than two operands or a repeated letter")
    if len(operands) == 2:
        return product(op, operands[0], operands[1], terms, op.shape)
    term, out = terms[0], terms[-1]
    labels = op.settle(op.as_labels(operands[0]), _places(term, set(term) - set(out)), _sums(op))
    return L.spread(_placed(labels, term, out), op.shape)


@rule("scaled_dot_product_attention")
def attention(op: Operation) -> Value:
    """``softmax(query @ key.T * scale + mask) @ value``: whole heads are units; the scale stays that of a head."""
    query, key, value = (op.labels(name) for name in ("query", "key", "value"))
    if op.args.get("enable_gqa"):
        key, value = (_repeated(labels, query.shape[-3]) for labels in (key, value))
    shape = (*op.shape[:-1], key.shape[-2])
    scores = product(op, query, key.transpose(-1, -2), _matrix_terms(query.ndim, key.ndim), shape)
    mask = op.value("attn_mask")
    if mask is not None:
        scores = add_parameter(op, scores, mask) if isinstance(mask, Parameter) else meet(op, scores, mask)
    scores = L.spread(op.settle(scores, [-1], "softmax runs over its units"), shape)
    return product(op, scores, value, _matrix_terms(scores.ndim, value.ndim), op.shape)


def product(op: Operation, a: Value, b: Value, terms: Sequence[str], shape: Sequence[int]) -> Tensor:
    """Return the labels of the sum of ``a * b`` over all letters that the result lacks, and record its cost.

    Args:
        op: the call.
        a: labels or a parameter.
        b: likewise.
        terms: a letter for each dimension of ``a``, of ``b`` and of the result.
        shape: of the result.
    """
    a_term, b_term, out = terms
    if isinstance(b, Parameter) and not isinstance(a, Parameter):
        result, fan_in = _weighted(op, a, a_term, b, b_term, out)
    elif isinstance(a, Parameter) and not isinstance(b, Parameter):
        result, fan_in = _weighted(op, b, b_term, a, a_term, out)
    else:
        result, fan_in = _activations(op, op.as_labels(a), a_term, op.as_labels(b), b_term, out), None
    sizes = dict(zip(a_term + b_term, (*a.shape, *b.shape), strict=True))
    summed = math.prod(size for letter, size in sizes.items() if letter not in out)
    fan_in = L.none((summed,)) if fan_in is None else fan_in
    outputs = L.compact(result).reshape(-1)
    op.cost(
        "product",
        L.compact(op.glimpse(a)).reshape(-1),
        outputs,
        fan_in=fan_in,
        kernel=(summed // len(fan_in),),
        batch=math.prod(shape) // len(outputs),
    )
    return L.spread(result, shape)


def _activations(op: Operation, a: Tensor, a_term: str, b: Tensor, b_term: str, out: str) -> Tensor:
    """Tie two factors along what they share; return labels with a dimension for each letter of ``out``."""
    a = op.settle(a, _places(a_term, set(a_term) - set(out)), _sums(op))
    b = op.settle(b, _places(b_term, set(b_term) - set(out)), _sums(op))
    a_free, b_free = _places(a_term, set(a_term) - set(b_term)), _places(b_term, set(b_term) - set(a_term))
    if set(L.varying(a)) & set(a_free) and set(L.varying(b)) & set(b_free):
        reason = f"{op.name} multiplies each of its channels with each of others"
        a, b = op.settle(a, a_free, reason), op.settle(b, b_free, reason)
    left, right = _placed(a, a_term, out), _placed(b, b_term, out)
    shared = [d for d, letter in enumerate(out) if letter in a_term and letter in b_term]
    if left.numel() == 1 or right.numel() == 1:
        single, other = (left, right) if left.numel() == 1 else (right, left)
        return _single_factor(op, single, other, shared)
    if set(L.varying(left)).isdisjoint(L.varying(right)):
        reason = f"{op.name} multiplies each of its channels with each of others"
        if set(L.varying(right)) <= set(shared):
            op.pin(left, reason)
            return right
        op.pin(right, reason)
        return left
    op.tie(left, right)
    return L.tidy(torch.where(left >= 0, left, right))


def _single_factor(op: Operation, single: Tensor, other: Tensor, shared: Sequence[int]) -> Tensor:
    """One label for a whole factor: a channel of its own, a tensor nobody knows, or none."""
    if int(single) >= 0 and int(single) in op.atoms.opaque:
        if other.numel() == 1 or set(L.varying(other)) & set(shared):
            op.tie(single, other)
        return other if other.numel() > 1 or int(other) >= 0 else single
    if other.numel() > 1:
        op.pin(single, f"it is broadcast over other channels by {op.name}")
    else:
        op.tie(single, other)
    return other if other.numel() > 1 or int(single) < 0 else single


def _weighted(
    op: Operation, x: Tensor, term: str, weight: Parameter, weight_term: str, out: str
) -> tuple[Tensor, Tensor | None]:
    """Return labels with a dimension for each letter of ``out``, and those summed over if removal follows them."""
    changing = [term[d] for d in L.varying(x)]
    carried = [letter for letter in changing if letter in out]
    if carried:
        x = op.settle(x, _places(term, set(term) - set(out)), f"{op.name} uses the same weight for all its units")
        result = _placed(x, term, out)
        for letter in carried:
            if letter in weight_term:
                own = _along(op.axis(weight, weight_term.index(letter)), letter, out)
                op.tie(own, result) if len(carried) == 1 else op.atoms.meet(result, own)
        _pin_axes(op, weight, weight_term, carried)
        return result, None
    summed = [letter for letter in term if letter not in out and letter in weight_term]
    letter = next((c for c in changing if c in summed), summed[0] if summed else "")
    fan_in = None
    if letter:
        others = _places(term, set(changing) - {letter})
        x = op.settle(x, others, f"{op.name} sums over several dimensions of its units")
        fan_in = op.axis(weight, weight_term.index(letter), "input")
        op.tie(fan_in, L.compact(x).reshape(-1))
    free = [c for c in weight_term if c in out and c not in term and weight_term.index(c) in weight.long]
    made = free[:1]
    _pin_axes(op, weight, weight_term, [letter, *made])
    outputs = op.axis(weight, weight_term.index(made[0]), "output") if made else L.none((1,))
    return _along(outputs, made[0] if made else out[:1], out), fan_in


def _pin_axes(op: Operation, weight: Parameter, term: str, free: Iterable[str]) -> None:
    for dim in weight.long:
        if term[dim] not in free:
            op.pin(op.axis(weight, dim), f"axis {weight.axes[dim]} of {weight.name} meets no units in {op.name}")


def _along(atoms: Tensor, letter: str, out: str) -> Tensor:
    return atoms.reshape([-1 if c == letter else 1 for c in out])


def _placed(labels: Tensor, term: str, out: str) -> Tensor:
    """Return compact ``labels`` with a dimension for each letter of ``out``; letters that it lacks have size 1."""
    small = L.compact(labels)
    order = [term.index(letter) for letter in out if letter in term]
    rest = [d for d in range(small.ndim) if d not in order]
    small = small.permute(*order, *rest).reshape([small.shape[d] for d in order])
    sizes = iter(small.shape)
    return small.reshape([next(sizes) if letter in term else 1 for letter in out])


def _places(term: str, letters: Iterable[str]) -> list[int]:
    return [term.index(letter) for letter in letters if letter in term]


def _sums(op: Operation) -> str:
    return f"{op.name} sums products of activations over it"


def _repeated(labels: Tensor, heads: int) -> Tensor:
    """Return the labels of keys or values with each of their heads repeated for its queries."""
    small = L.compact(labels)
    shape = (*labels.shape[:-3], heads, *labels.shape[-2:])
    if small.shape[-3] > 1:
        small = small.repeat_interleave(heads // labels.shape[-3], -3)
    return L.spread(small, shape)


def _matrix_terms(left: int, right: int) -> tuple[str, str, str]:
    """Return the letters of matmul's factors and result, by their numbers of dimensions."""
    batch = LETTERS[: max(left, right, 2) - 2]
    a = "K" if left == 1 else batch[len(batch) - (left - 2) :] + "MK"
    b = "K" if right == 1 else batch[len(batch) - (right - 2) :] + "KN"
    return a, b, batch + ("M" if left > 1 else "") + ("N" if right > 1 else "")


def _einsum_terms(equation: str, ranks: Sequence[int]) -> tuple[str, ...] | None:
    """Return one letter for each dimension, for the operands and the result; ``None`` if a letter is repeated."""
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        counts = {c: inputs.count(c) for c in inputs if c.isalpha()}
        out = ("..." if "..." in inputs else "") + "".join(sorted(c for c, n in counts.items() if n == 1))
    spare = [c for c in LETTERS if c not in equation]
    extra = max((rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)), default=0)
    dots = "".join(spare[:extra])
    full = [
        t.replace("...", dots[extra - (rank - len(t.replace("...", ""))) :])
        for t, rank in zip(terms, ranks, strict=True)
    ]
    full.append(out.replace("...", dots))
    return tuple(full) if all(len(set(t)) == len(t) for t in full) else None
