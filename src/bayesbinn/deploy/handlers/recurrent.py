"""Recurrent layers: the products with the input for all steps at once, then step by step."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...nn import BinaryGRU, BinaryLayer, BinaryLSTM, BinaryRNN
from ..builder import Builder, Handler
from ..steps import Step, UnsupportedError
from ..values import Value
from .layers import layer_step, linear


def _recurrent(build: Builder, node: fx.Node, module: Any) -> None:
    """(outputs, last states), as torch gives them; the last memory of an LSTM is not kept."""
    args = build.resolve(node.args)
    start = args[1] if len(args) > 1 else build.resolve(node.kwargs).get("hx")
    given = start if isinstance(start, (tuple, list)) else [start]
    if not all(s is None or (isinstance(s, Tensor) and not s.any()) for s in given):
        raise UnsupportedError(f"{node.target!r}: a first state that is not zero")
    if getattr(module, "proj_size", 0):
        raise UnsupportedError(f"{node.target!r}: proj_size")
    value, last = build.source(node), []
    for layer in range(module.num_layers):
        directions = [""] + ["_reverse"] * module.bidirectional
        outputs = [_direction(build, str(node.target), module, value, f"_l{layer}{d}") for d in directions]
        axis = 1 if module.batch_first else 0
        for output, direction in zip(outputs, directions, strict=True):
            last.append(output.viewed(partial(torch.select, dim=axis, index=0 if direction else -1)))
        value = outputs[0] if len(outputs) == 1 else _side_by_side(build, outputs)
    if len(last) == 1:
        states = last[0].viewed(lambda r: r.unsqueeze(0))
    else:
        whole = build.first(last[0])
        for state in map(build.first, last[1:]):
            shape = (whole.size + state.size,)
            whole = build.add(Step({"op": "concat", "axis": 0}, [whole.index, state.index]), shape)
        states = whole.viewed(lambda r: r.reshape(len(r), len(last), -1).transpose(0, 1))
    build.constants[node] = (value, (states, None) if isinstance(module, (nn.LSTM, BinaryLSTM)) else states)


def _direction(build: Builder, path: str, module: Any, value: Value, suffix: str) -> Value:
    """The states of one direction of one layer."""
    name = f"{path}.weight_hh{suffix}"
    weights = [getattr(module, f"weight_{of}{suffix}") for of in ("ih", "hh")]
    biases = [getattr(module, f"bias_{of}{suffix}", None) for of in ("ih", "hh")]
    sizes = [(w.weight if isinstance(w, BinaryLayer) else w).shape for w in weights]
    real = [None if isinstance(w, BinaryLayer) else w for w in weights]
    scales = [w.scales if isinstance(w, BinaryLayer) else None for w in weights]
    gates = linear(build, value, f"{path}.weight_ih{suffix}", tuple(sizes[0]), real[0], scales[0], biases[0])
    rows, tensor = build.rows(gates)
    if len(rows.stored) != 2:
        raise UnsupportedError(f"{path!r}: an input of shape {value.shape}, not a sequence")
    entry: dict[str, Any] = {"op": "binary_recurrent" if real[1] is None else "real_recurrent", "name": name}
    entry |= {"cell": module.mode.lower(), "reverse": suffix.endswith("reverse")}
    shape = (int(sizes[1][1]), *rows.stored[1:])
    return tensor(
        build.add(layer_step(entry, rows, real[1], scales[1], biases[1], int(sizes[1][0])), shape).index, shape
    )


def _side_by_side(build: Builder, outputs: list[Value]) -> Value:
    (a, tensor), (b, _) = (build.rows(output) for output in outputs)
    shape = (a.stored[0] + b.stored[0], *a.stored[1:])
    return tensor(build.add(Step({"op": "concat", "axis": 0}, [a.index, b.index]), shape).index, shape)


MODULES: dict[type[nn.Module], Handler] = dict.fromkeys(
    (nn.RNN, nn.GRU, nn.LSTM, BinaryRNN, BinaryGRU, BinaryLSTM), _recurrent
)
FUNCTIONS: dict[Any, Handler] = {}
