"""Packing tells the truth: the program that a file holds, compared with the network that it was made of.

Two things are compared, operation by operation, on the same inputs and for every network in the file; how, and why,
is in docs/design/packing-is-checked.md.  Each value is a number with a bound on its error, which grows by float
rounding until the network shows the value, and then starts again from the network's own.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..runtime.numpy_engine import quantize
from ..runtime.numpy_engine import run_op as run_packed
from ..runtime.program import Op, Program
from . import twin
from .builder import Point, UnsupportedError
from .capture import Capture
from .networks import Record

REASONS = (
    "a file holds no hook, no dropout that stays on and nothing that depends on more than the input; "
    "write what does this in forward, as operations that docs/deploy.md lists"
)
# times eps: a float sum errs by about eps / 2, √fan-in times that where all terms have one sign; scale and shift are
# products and quotients of several numbers, each of them rounded
ROUNDING, FACTORS = 2, 4


@dataclass(frozen=True)
class _Value:
    """Exact up to `error` ≥ 0, both (B, C, H, W) float64."""

    exact: Tensor
    error: Tensor


def verify(program: Program, captured: Capture, x: Tensor, records: Iterable[Record]) -> None:
    """Compare `program` with what each network did with x (B, *input shape).

    Raises:
        UnsupportedError: naming the first layer whose values differ by more than rounding, or more than its
            activations' steps, can explain.
    """
    for sample, record in enumerate(records):
        _verify(program, captured, x, record, sample)


def _verify(program: Program, captured: Capture, x: Tensor, record: Record, sample: int) -> None:
    assert record.output is not None
    shown = [record.output, *record.seen.values()]
    if not all(bool(torch.isfinite(t).all()) for t in shown):
        raise UnsupportedError("the network itself gives NaN or inf on the inputs that packing is checked with")
    unit = ROUNDING * max(torch.finfo(t.dtype).eps for t in shown)
    weights = twin.weights(program, sample, torch.float64)
    network = f"sample {sample}" if sample else "the mode"
    given = x.detach().cpu().double().reshape(twin.inner(x.shape))
    which = f"nothing in {network}"
    values = [_shown(_Value(given, torch.zeros_like(given)), captured.points[0], record, which)]
    for index, (op, step) in enumerate(zip(program.ops, captured.steps, strict=True)):
        inputs, weight = [values[i] for i in op.inputs], weights[index]
        value = _rounded(op, inputs, weight, unit, step.size)
        which = f"{', '.join(map(repr, step.parts))} in {network}"
        _check_quantised(op, inputs[0].exact, value, weight, sample, which)
        values.append(_shown(value, captured.points[index + 1], record, which))
    _compare(record.output, values[-1], "the output is", which)


def _rounded(op: Op, inputs: list[_Value], weight: Tensor | None, unit: float, size: Tensor | None) -> _Value:
    """The operation in float64 with float activations, and how far float arithmetic of relative error `unit` may be."""
    exact = twin.run_op(op, [v.exact for v in inputs], weight)
    unit *= FACTORS + math.sqrt(math.prod(op.weight_shape[1:]) if weight is not None else math.prod(op.kernel))
    errors, sizes = [v.error for v in inputs], [v.exact.abs() for v in inputs]
    if op.kind == "sign" or (op.activation is not None and op.activation.kind == "sign"):
        errors = [2.0 * (v.exact.abs() < v.error) for v in inputs]  # the sign may be the other
        sizes = [torch.ones_like(s) for s in sizes]
        if op.kind == "sign":
            return _Value(exact, errors[0])
    return _Value(exact, _spread(op, [e + unit * s for e, s in zip(errors, sizes, strict=True)], weight, unit, size))


def _spread(
    op: Op, errors: list[Tensor], weight: Tensor | None, unit: float = 0.0, size: Tensor | None = None
) -> Tensor:
    """The largest error of the output, for errors of the inputs: the operation with absolute weights and scales."""
    scale = None if op.scale is None else np.abs(op.scale)
    shift = None if size is None else (unit * size).numpy()
    if scale is not None and shift is None:
        shift = np.zeros_like(scale)
    absolute = replace(op, activation=None, scale=scale, shift=shift, low=-math.inf, high=math.inf)
    return twin.run_op(absolute, errors, None if weight is None else weight.abs())


def _check_quantised(op: Op, x: Tensor, value: _Value, weight: Tensor | None, sample: int, which: str) -> None:
    """What the runtime computes of these inputs is as near as half a step of each quantised input allows."""
    if op.activation is None or op.activation.kind == "sign":
        return
    x = x.float()
    _, step, _ = quantize(x.numpy(), op.activation)
    half = torch.from_numpy(step).double().reshape(-1, 1, 1, 1) * (0.5 + 1e-2)  # x / step is itself rounded
    found = run_packed(op, [x.permute(0, 2, 3, 1).numpy()], sample).transpose(0, 3, 1, 2)
    allowed = value.error + _spread(op, [half.expand_as(x)], weight)
    _compare(torch.from_numpy(found.copy()), _Value(value.exact, allowed), "its quantised output is", which)


def _shown(value: _Value, points: list[Point], record: Record, which: str) -> _Value:
    """Compare with what the network shows of the value, and go on from that."""
    for point in points:
        tensor = record.seen.get(point)
        if tensor is None:
            raise UnsupportedError(f"module {point.module!r} is not called as it was when traced: {REASONS}")
        value = _compare(tensor, value, f"what {point.module!r} {point.side} is", which)
    return value


def _compare(found: Tensor, value: _Value, what: str, which: str) -> _Value:
    """The value as found, now exact; an error that names the layer if it is not what was expected."""
    if found.numel() != value.exact.numel():
        raise UnsupportedError(f"{which}: {what} of shape {tuple(found.shape)}, not as traced: {REASONS}")
    found = found.detach().cpu().double().reshape(value.exact.shape)
    excess = (found - value.exact).abs() - value.error
    if not bool((excess <= 0).all()):
        at = int(excess.argmax())
        real, packed, allowed = (float(t.reshape(-1)[at]) for t in (found, value.exact, value.error))
        raise UnsupportedError(
            f"what was packed is not this network: after {which}, {what} {real:.4g}, packed {packed:.4g} "
            f"(rounding explains {allowed:.2g}): {REASONS}"
        )
    return _Value(found, torch.zeros_like(found))
