"""Packing tells the truth: the program that a file holds, compared with the network that it was made of.

Two things are compared, operation by operation, on the same inputs and for every network in the file; how, and why,
is in docs/design/packing-is-checked.md.  Each value is a number with a bound on its error, which grows by float
rounding until the network shows the value, and then starts again from the network's own.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..runtime.numpy_engine import quantize
from ..runtime.numpy_engine import run_op as run_packed
from ..runtime.operation import Op
from ..runtime.program import Program
from . import twin
from .calibration import FEW_LEVELS
from .capture import Capture
from .networks import Record
from .steps import Shown, UnsupportedError

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
        _verify(program.of(sample), captured, x, record, sample)


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
        inputs, weight = [values[i] for i in op.inputs or (0,)], weights[index]
        value = _rounded(op, inputs, weight, unit, step.size)
        which = f"{', '.join(map(repr, step.parts))} in {network}"
        _check_quantised(op, inputs[0].exact, value, weight, sample, which)
        values.append(_shown(value, captured.points[index + 1], record, which))
    _compare(record.output, values[-1], "the output is", which)


def _rounded(op: Op, inputs: list[_Value], weight: Tensor | None, unit: float, size: Tensor | None) -> _Value:
    """The operation in float64 with float activations, and how far float arithmetic of relative error `unit` may be."""
    exact = twin.run_op(op, [v.exact for v in inputs], weight)
    if op.kind == "recurrent":
        assert weight is not None
        return _Value(exact, _recurrent(op, unit, exact, inputs[0], weight))
    if op.kind in FLOAT_ERRORS:
        return _Value(exact, FLOAT_ERRORS[op.kind](op, unit, exact, *inputs))
    unit *= FACTORS + math.sqrt(math.prod(op.weight_shape[1:]) if weight is not None else math.prod(op.kernel))
    errors, sizes = [v.error for v in inputs], [v.exact.abs() for v in inputs]
    if op.kind == "sign" or (op.activation is not None and op.activation.kind == "sign"):
        errors = [2.0 * (v.exact.abs() < v.error) for v in inputs]  # the sign may be the other
        sizes = [torch.ones_like(s) for s in sizes]
        if op.kind == "sign":
            return _Value(exact, errors[0])
    return _Value(exact, _spread(op, [e + unit * s for e, s in zip(errors, sizes, strict=True)], weight, unit, size))


# how far a function of the runtime may be from torch's, for each of max(1, |x|); how much it grows a small error
FUNCTION_ERROR, STEEPEST = 3e-7, 1.2
# times what float32 was seen to be off in the states of a recurrent layer, and times eps for states that were not off
RECURRENT, SETTLED = 30.0, 100.0


def _function(op: Op, unit: float, exact: Tensor, x: _Value) -> Tensor:
    steepest = max(STEEPEST, abs(op.parameter))
    return steepest * x.error + (unit + FUNCTION_ERROR) * x.exact.abs().clamp(min=1) * max(1.0, abs(op.parameter))


def _normalize(op: Op, unit: float, exact: Tensor, x: _Value) -> Tensor:
    """An error e moves the mean by its mean, and the standard deviation σ by its root mean square."""
    assert op.scale is not None
    assert op.shift is not None
    found, inverse = twin.normalized(op, x.exact)
    axes = (2, 3, 4) if op.whole else (2,)

    def over(f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
        split = t.reshape(len(t), op.groups, -1, *t.shape[2:])
        return f(split).expand_as(split).flatten(1, 2)

    count = op.source[0] // op.groups * (math.prod(op.source[1:]) if op.whole else 1)
    unit *= math.sqrt(count)
    error = x.error + unit * x.exact.abs()  # of x minus its mean, where the mean is large
    mean = over(lambda t: t.mean(axes, keepdim=True), error)
    root = over(lambda t: t.square().mean(axes, keepdim=True).sqrt(), error + mean)
    error = (error + mean) * inverse + (found.abs() + root * inverse) * (root * inverse + unit)
    scale, shift = (torch.from_numpy(np.abs(v)).double().reshape(1, -1, 1, 1) for v in (op.scale, op.shift))
    return error * scale + unit * (found.abs() * scale + shift)


def _softmax(op: Op, unit: float, exact: Tensor, x: _Value) -> Tensor:
    largest = x.error.amax(1, keepdim=True) + unit * (x.exact - x.exact.amax(1, keepdim=True)).abs().clamp(max=88)
    return exact * (torch.expm1(2 * largest.clamp(max=100)) + unit * math.sqrt(op.source[0]) + FUNCTION_ERROR) + 1e-30


def _product(op: Op, unit: float, exact: Tensor, x: _Value, y: _Value) -> Tensor:
    """|x y − (x + e)(y + d)| ≤ e |y| + |x| d + e d, and rounding."""
    a, b = x.exact.abs(), y.exact.abs()
    unit *= math.sqrt(op.source[0]) if op.kind == "matmul" else 1.0
    terms = ((x.error, b), (a, y.error + unit * b), (x.error, y.error))
    plain = replace(op, low=-math.inf, high=math.inf)
    return sum((twin.run_op(plain, [p, q], None) for p, q in terms), torch.zeros_like(exact))


def _moved(op: Op, unit: float, exact: Tensor, *inputs: _Value) -> Tensor:
    return twin.run_op(op, [v.error for v in inputs], None)


def _recurrent(op: Op, unit: float, exact: Tensor, x: _Value, weight: Tensor) -> Tensor:
    """Bounds grow with every step beyond all use: how far float32, and inputs moved by their error, get instead."""
    moved = x.exact + x.error * torch.randn(x.exact.shape, generator=torch.Generator().manual_seed(0)).sign()
    off = [twin.run_op(op, [x.exact.float()], weight.float()).double(), twin.run_op(op, [moved], weight)]
    largest = torch.stack([(v - exact).abs() for v in off]).amax((0, 2, 3, 4), keepdim=True)[0]
    return (RECURRENT * largest + unit * SETTLED).expand_as(exact)


FLOAT_ERRORS: dict[str, Callable[..., Tensor]] = {
    "function": _function,
    "normalize": _normalize,
    "softmax": _softmax,
    "multiply": _product,
    "matmul": _product,
    "concat": _moved,
    "view": _moved,
    "constant": lambda op, unit, exact, x: unit * exact.abs(),
}


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
    if op.activation is None or op.activation.kind == "sign" or op.kind == "recurrent":
        return
    x = x.float()
    _, step, _ = quantize(x.numpy(), op.activation)
    half = torch.from_numpy(step).double().reshape(-1, 1, 1, 1) * (0.5 + 1e-2)  # x / step is itself rounded
    found = run_packed(op, [x.permute(0, 2, 3, 1).numpy()], sample).transpose(0, 3, 1, 2)
    half = half.expand_as(x)
    if op.activation.levels < FEW_LEVELS and op.activation.step is not None:  # calibration cuts rare large values
        zero, top = op.activation.zero, op.activation.levels
        half = half + (x.double() - x.double().clamp(*(op.activation.step * (n - zero) for n in (-top, top)))).abs()
    allowed = value.error + _spread(op, [half], weight)
    _compare(torch.from_numpy(found.copy()), _Value(value.exact, allowed), "its quantised output is", which)


def _shown(value: _Value, points: list[Shown], record: Record, which: str) -> _Value:
    """Compare with what the network shows of the value, and go on from that."""
    for point, own in points:
        tensor = record.seen.get(point)
        if tensor is None:
            raise UnsupportedError(f"module {point.module!r} is not called as it was when traced: {REASONS}")
        what = f"what {point.module!r} {point.side} is"
        if own is None:
            value = _compare(tensor, value, what, which)
            continue
        read = own.flatten()
        exact, error = value.exact.flatten(1).clone(), value.error.flatten(1).clone()
        found = _compare(tensor, _Value(exact[:, read], error[:, read]), what, which)
        exact[:, read], error[:, read] = found.exact, 0.0
        value = _Value(exact.reshape(value.exact.shape), error.reshape(value.error.shape))
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
