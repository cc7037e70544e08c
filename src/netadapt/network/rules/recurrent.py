"""Recurrent layers over a sequence, as text recognisers have them: LSTM, GRU and plain ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from netadapt.network import labels as L
from netadapt.network.operation import Operation, Parameter, Value
from netadapt.network.rules.registry import rule


@rule("lstm gru rnn_tanh rnn_relu")
def recurrent(op: Operation) -> Value:
    """Tie hidden units of all layers and directions one to one, since a module has one size for all of them.

    A unit owns a row of each gate in both matrices and in the biases, and a column of the matrix for hidden states. The
    layers above and what comes behind read it.
    """
    labels, cells = op.labels("input"), list(_cells(op))
    inputs = L.vector(labels, -1) if labels.ndim > 1 else None
    if not cells or inputs is None:
        return op.pin_all(f"a call of {op.name} that is packed, projected, or runs on units along its sequence")
    steps, units = math.prod(labels.shape[:-1]), op.axis(cells[0][0][1], 1, "input")
    for directions in cells:
        for weights in directions:
            _tie_cell(op, weights, inputs, units, steps)
        inputs = units.repeat(len(directions))
    _tie_states(op, units)
    first, *states = op.shapes
    return [L.along(inputs, len(first) - 1, first), *(L.along(units, len(shape) - 1, shape) for shape in states)]


def _cells(op: Operation) -> Iterator[list[Sequence[Parameter]]]:
    """Iterate over the layers: for each direction the matrices for inputs and hidden states, and the biases.

    Nothing comes of calls on packed sequences, of weights that are computed, and of LSTMs with projections.
    """
    weights = op.value("params")
    each = 4 if op.args.get("has_biases") else 2
    directions = 2 if op.args.get("bidirectional") else 1
    plain = "batch_first" in op.args and all(isinstance(weight, Parameter) for weight in weights)
    if plain and len(weights) == each * directions * int(op.args["num_layers"]):
        for start in range(0, len(weights), each * directions):
            layer = weights[start : start + each * directions]
            yield [layer[at : at + each] for at in range(0, len(layer), each)]


def _tie_cell(op: Operation, weights: Sequence[Parameter], inputs: Tensor, units: Tensor, steps: int) -> None:
    """Tie one layer in one direction to what it reads and to the hidden units of the module."""
    of_inputs, of_states, *biases = weights
    hidden = op.axis(of_states, 1, "input")
    op.tie(hidden, units)
    for matrix, columns, read in ((of_inputs, op.axis(of_inputs, 1, "input"), inputs), (of_states, hidden, units)):
        op.tie(columns, read)
        rows = op.axis(matrix, 0, "output")
        op.tie(rows.reshape(-1, len(units)), units[None])
        op.cost("linear", read, rows, fan_in=columns, kernel=(1, 1), stride=(1, 1), batch=steps)
    for bias in biases:
        op.tie(op.axis(bias, 0).reshape(-1, len(units)), units[None])


def _tie_states(op: Operation, units: Tensor) -> None:
    """Tie hidden states that are given, e.g. those of an encoder; zeros tie nothing."""
    given = op.value("hx")
    for state in given if isinstance(given, list | tuple) else [given]:
        labels = op.as_labels(state)
        along = L.vector(labels, -1)
        if along is None:
            for atoms in (labels, units):
                op.pin(atoms, f"a first state of {op.name} that has units along layers or images")
        else:
            op.tie(along, units)
