"""Runs a checked program in plain numpy: the same results as the compiled library, bit for bit, without it.

Integer sums are done as float matrix products, which are exact here: every partial sum is an integer that the float
type holds.  Real layers add products one at a time, kernel row, kernel column, input channel, so that the order of
float32 rounding is the same on every engine.  Arrays are channels last, (B, H, W, C).
"""

import math

import numpy as np
from numpy.typing import NDArray

from . import functions
from .engine import NOT_FINITE, Engine
from .operation import MIN_STEP, Activation, Op, Shape
from .program import Program

Floats = NDArray[np.float32]


class NumpyEngine(Engine):
    """Runs `program`; `threads` is accepted and ignored (numpy's own library decides)."""

    name = "numpy"

    def __init__(self, program: Program, threads: int, max_memory: int, max_operations: int) -> None:
        super().__init__(program, threads, max_memory, max_operations)
        need = memory(program)
        if need > self._max_memory:
            raise ValueError(
                f"the network cannot be loaded: it needs {need} bytes of memory, max_memory allows {self._max_memory}"
            )
        self._rows = min(self._rows, self._max_memory // need)

    def _compute(self, x: Floats, first: int, out: Floats) -> None:
        if not np.isfinite(x).all():
            raise ValueError(NOT_FINITE)
        inner = x.reshape(len(x), *self.program.input).transpose(0, 2, 3, 1)  # channels last
        for sample, to in enumerate(out, first):
            to[...] = self._network(inner, sample).transpose(0, 3, 1, 2).reshape(to.shape)

    def _network(self, x: Floats, sample: int) -> Floats:
        values = [x]
        with np.errstate(over="ignore", invalid="ignore"):
            for op in self.program.of(sample).ops:
                values.append(np.ascontiguousarray(run_op(op, [values[i] for i in op.inputs or (0,)], sample)))
        return values[-1]


def memory(program: Program) -> int:
    """Bytes for one input, about: all values, and what the largest operation makes on its way."""
    values = math.prod(program.input) + sum(math.prod(op.shape) for op in program.ops)
    largest = max(math.prod(op.source) + math.prod(op.shape) + op.num_weights for op in program.ops)
    return 4 * values + 24 * largest


def run_op(op: Op, inputs: list[Floats], sample: int) -> Floats:
    """One operation on (B, H, W, C) arrays, with the weights of network `sample`."""
    x = inputs[0]
    match op.kind:
        case "binary":
            return clamp(binary(op, x, sample), op)
        case "real":
            assert op.scale is not None
            assert op.shift is not None
            return clamp(real(op, x) * op.scale + op.shift, op)
        case "max_pool":
            return pool(op, x, -math.inf, np.maximum)
        case "avg_pool":
            return clamp(pool(op, x, 0.0, np.add) * np.float32(1 / math.prod(op.kernel)), op)
        case "add":
            return clamp(x + inputs[1], op)
        case "multiply":
            return clamp(x * inputs[1], op)
        case "affine":
            assert op.scale is not None
            assert op.shift is not None
            return clamp(x * op.scale + op.shift, op)
        case "clamp":
            return clamp(x, op)
        case "sign":
            return np.where(x >= 0, np.float32(1), np.float32(-1))
        case "flatten":
            return x.transpose(0, 3, 1, 2).reshape(len(x), 1, 1, -1)
        case "function":
            return functions.COMPUTE[op.function](x, op.parameter)
        case "recurrent":
            return recurrent(op, x, sample)
        case "normalize":
            assert op.scale is not None
            assert op.shift is not None
            return clamp(normalize(op, x) * op.scale + op.shift, op)
        case "softmax":
            return functions.softmax(x)
        case "matmul":
            return matmul(x, inputs[1] if op.transposed else inputs[1].swapaxes(2, 3))
        case "concat":
            return np.concatenate(inputs, axis=(3, 1, 2)[op.axis])
        case "view":
            return x.reshape(len(x), -1)[:, view_indices(op)].reshape(len(x), *channels_last(op.shape))
        case "constant":
            assert op.value is not None
            return np.broadcast_to(op.value.transpose(1, 2, 0), (len(x), *channels_last(op.shape)))
    raise AssertionError(op.kind)


def channels_last(shape: Shape) -> Shape:
    """(H, W, C) of a (C, H, W)."""
    return (*shape[1:], shape[0])


def normalize(op: Op, x: Floats) -> Floats:
    """The channels of each group, at each pixel or at all of them (`whole`), with mean 0 and mean square 1."""
    size = op.source[0] // op.groups
    if not op.whole:
        split = x.reshape(*x.shape[:3], op.groups, size)
        return functions.normalize(split, op.center, op.parameter).reshape(x.shape)
    pixels = x.reshape(len(x), -1, op.groups, size).swapaxes(1, 2)
    found = functions.normalize(pixels.reshape(len(x), op.groups, -1), op.center, op.parameter)
    return found.reshape(pixels.shape).swapaxes(1, 2).reshape(x.shape)


def recurrent(op: Op, x: Floats, sample: int) -> Floats:
    """The states (B, 1, T, C) of a recurrent layer; x (B, 1, T, gates · C) has the products with its input."""
    product, steps = op.product, x.shape[2]
    state = memory = np.zeros((len(x), op.shape[0]), np.float32)
    out = np.empty((len(x), 1, steps, op.shape[0]), np.float32)
    for t in reversed(range(steps)) if op.reverse else range(steps):
        h = run_op(product, [state[:, None, None]], sample)[:, 0, 0]
        state, memory = functions.step(op.function, x[:, 0, t], h, state, memory)
        out[:, 0, t] = state
    return out


def matmul(x: Floats, y: Floats) -> Floats:
    """Σ over K of x (B, H, M, K) y (B, H, N, K) → (B, H, M, N) in float32, one product after the other."""
    total = np.zeros((*x.shape[:3], y.shape[2]), np.float32)
    for k in range(x.shape[3]):
        total += x[..., k, None] * y[:, :, None, :, k]
    return total


def view_indices(op: Op) -> NDArray[np.intp]:
    """Which numbers of the input a view reads, in the order of its output; both channels last."""
    assert op.view is not None
    indices = np.full((), op.view.offset, np.intp)
    for size, stride in zip(op.view.sizes, op.view.strides, strict=True):
        indices = indices[..., None] + stride * np.arange(size)
    return indices.reshape(-1)


def clamp(x: Floats, op: Op) -> Floats:
    """x limited to [low, high] of the operation; NaN becomes low."""
    low, high = np.float32(op.low), np.float32(op.high)
    x = np.where(x > low, x, low)
    return np.where(x < high, x, high)


def quantize(x: Floats, activation: Activation) -> tuple[NDArray[np.int32], Floats, NDArray[np.int32]]:
    """Levels q of x (B, ...) and, per input, step s and zero z:  x ≈ s (q − z),  |q| ≤ Q.

    s = (max(x, 0) − min(x, 0)) / 2Q,  z = round(−min(x, 0) / s) − Q        (or fixed, from calibration)
    q = round(clip(x / s, −Q − z, Q − z)) + z                                (ties to even)
    """
    top = activation.levels
    if activation.step is not None:
        step = np.full(len(x), activation.step, np.float32)
        zero = np.full(len(x), activation.zero, np.int32)
    else:
        flat = x.reshape(len(x), -1)
        low, high = np.minimum(flat.min(1), np.float32(0)), np.maximum(flat.max(1), np.float32(0))
        step = (high - low) / np.float32(2 * top)
        step = np.where(step > np.float32(MIN_STEP), step, np.float32(MIN_STEP))
        below = -low * (np.float32(1) / step)
        below = np.where(below > 0, below, np.float32(0))
        zero = np.rint(np.where(below < 2 * top, below, np.float32(2 * top))).astype(np.int32) - top
    spread = (-1,) + (1,) * (x.ndim - 1)
    least, most = (-top - zero).astype(np.float32).reshape(spread), (top - zero).astype(np.float32).reshape(spread)
    scaled = x * (np.float32(1) / step).reshape(spread)
    scaled = np.where(scaled > least, scaled, least)
    scaled = np.where(scaled < most, scaled, most)
    return np.rint(scaled).astype(np.int32) + zero.reshape(spread), step, zero


def signs(op: Op, sample: int) -> NDArray[np.int8]:
    """The ±1 weights of network `sample`, (O, I/groups, kH, kW): bit 1 is +1, the lowest bit of a byte comes first."""
    assert op.bits is not None
    bits = np.unpackbits(op.bits[sample], count=op.num_weights, bitorder="little")
    return (2 * bits.astype(np.int8) - 1).reshape(op.weight_shape)


def binary(op: Op, x: Floats, sample: int) -> Floats:
    """scale · s · Σ w (q − z) + shift for int8 and int16, scale · Σ w sign(x) + shift for signs; padding counts 0."""
    assert op.activation is not None
    assert op.scale is not None
    assert op.shift is not None
    weight = signs(op, sample)
    if op.activation.kind == "sign":
        levels, step = np.where(x >= 0, 1, -1).astype(np.int32), np.ones(len(x), np.float32)
    else:
        levels, step, zero = quantize(x, op.activation)
        levels = levels - zero.reshape(-1, 1, 1, 1)
    fan_in = math.prod(op.weight_shape[1:])
    exact32 = 2 * op.activation.levels * fan_in < 1 << 24
    kind = np.float32 if exact32 else np.float64
    total = np.zeros((len(x), *op.shape[1:], op.shape[0]), kind)
    for patch, (i, j) in windows(op, levels.astype(kind), 0):
        total += grouped(patch, weight[:, :, i, j].astype(kind), op.groups)
    return total.astype(np.float32) * (step[:, None, None, None] * op.scale) + op.shift


def grouped(patch: NDArray[np.floating], weight: NDArray[np.floating], groups: int) -> NDArray[np.floating]:
    """patch (..., I) times weight (O, I/groups), group by group → (..., O)."""
    if groups == 1:
        product: NDArray[np.floating] = patch @ weight.T
        return product
    split = patch.reshape(*patch.shape[:-1], groups, -1)
    out: NDArray[np.floating] = np.einsum("...gi,goi->...go", split, weight.reshape(groups, -1, weight.shape[1]))
    return out.reshape(*patch.shape[:-1], -1)


def real(op: Op, x: Floats) -> Floats:
    """Σ w x in float32, one product after the other."""
    assert op.weight is not None
    outputs, fan_in = op.shape[0], op.weight.shape[1]
    total = np.zeros((len(x), *op.shape[1:], outputs), np.float32)
    source = np.arange(outputs) // (outputs // op.groups) * fan_in  # first input channel of each output's group
    for patch, (i, j) in windows(op, x, 0):
        for channel in range(fan_in):
            total += patch[..., source + channel] * op.weight[:, channel, i, j].astype(np.float32)
    return total


def pool(op: Op, x: Floats, empty: float, combine: np.ufunc) -> Floats:
    """`combine` of the values in each window; `empty` stands for padding."""
    total = np.full((len(x), *op.shape[1:], op.shape[0]), np.float32(empty))
    for patch, _ in windows(op, x, empty):
        total = combine(total, patch)
    return total


def windows(op: Op, x: NDArray[np.generic], empty: float):  # type: ignore[no-untyped-def]
    """For each tap (i, j) of the kernel: the (B, H′, W′, C) values that it meets, with `empty` for padding."""
    (top, left), (down, right) = op.padding, op.stride
    x = np.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), constant_values=empty)
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            row, column = i * op.dilation[0], j * op.dilation[1]
            rows = slice(row, row + (op.shape[1] - 1) * down + 1, down)
            columns = slice(column, column + (op.shape[2] - 1) * right + 1, right)
            yield x[:, rows, columns], (i, j)
