"""What a packed network computes: the slow, obvious integer reference in torch.

Every engine (numpy, and C for each instruction set) must give the outputs of `reference` exactly.  Sums are int64,
written tap by tap; each float32 operation is one torch operation, so that nothing is reordered or fused.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesbinn.deploy import unpack_signs
from bayesbinn.runtime.operation import MIN_STEP, Activation, Op
from bayesbinn.runtime.program import Program


def reference(program: Program, x: Tensor, sample: int = 0) -> Tensor:
    """Output of network `sample` (0: the mode) of a packed program, in integer arithmetic.

    Args:
        program: as read from a `.bbnn` file, see `deploy.load_program`.
        x: (B, *input shape) float32.

    Returns:
        (B, *output shape) float32.
    """
    channels, *spatial = program.input_shape
    height_width = ([1] * (2 - len(spatial)) + spatial)[-2:]
    values = [x.float().reshape(len(x), channels, *height_width)]
    for op in program.of(sample).ops:
        values.append(_run(op, [values[i] for i in op.inputs or (0,)], sample))
    return values[-1].reshape(len(x), *program.output_shape)


def _run(op: Op, inputs: list[Tensor], sample: int) -> Tensor:
    x = inputs[0]
    match op.kind:
        case "binary":
            return _clamp(_binary(op, x, sample), op)
        case "real":
            return _clamp(_real(op, x) * _channels(op.scale) + _channels(op.shift), op)
        case "max_pool":
            return torch.stack([patch for _, _, patch in _windows(op, x, -math.inf)]).amax(0)
        case "avg_pool":
            total = torch.zeros(())
            for _, _, patch in _windows(op, x, 0):
                total = total + patch
            return _clamp(total * (1 / math.prod(op.kernel)), op)
        case "add":
            return _clamp(inputs[0] + inputs[1], op)
        case "affine":
            return _clamp(x * _channels(op.scale) + _channels(op.shift), op)
        case "clamp":
            return _clamp(x, op)
        case "sign":
            return torch.where(x >= 0, 1.0, -1.0)
        case "flatten":
            return x.reshape(len(x), -1, 1, 1)
        case "multiply":
            return _clamp(inputs[0] * inputs[1], op)
        case "function":
            return FUNCTIONS[op.function](x, torch.tensor(op.parameter, dtype=torch.float32))
        case "softmax":
            return torch.stack([_softmax(x[..., h, w]) for h, w in np.ndindex(x.shape[2:])], -1).reshape(x.shape)
        case "recurrent":
            return _recurrent(op, x, sample)
        case "normalize":
            return _clamp(_normalize(op, x) * _channels(op.scale) + _channels(op.shift), op)
        case "matmul":
            return _matmul(op, *inputs)
        case "concat":
            return torch.cat(inputs, 1 + op.axis)
        case "view":
            return _view(op, x)
        case "constant":
            return torch.from_numpy(np.array(op.value)).expand(len(x), *op.shape)
    raise AssertionError(op.kind)


def _exp(x: Tensor) -> Tensor:
    x = torch.where(x > -87.0, x, -87.0).clamp(max=88.0)
    n = torch.round(x * 1.44269504088896341)
    r = (x - n * 0.693359375) + n * 2.12194440e-4
    p = torch.full_like(r, 1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + c
    return (p * (r * r) + r + 1) * torch.ldexp(torch.ones_like(r), n.int())


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + _exp(-x))


def _tanh(x: Tensor) -> Tensor:
    return 1 - 2 / (_exp(x * 2) + 1)


def _gelu(x: Tensor) -> Tensor:
    z = (x * 0.70710678).abs()
    t = 1 / (z * 0.3275911 + 1)
    p = torch.full_like(t, 1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + c
    y = 1 - (p * t) * _exp(-(z * z))
    return (x * 0.5) * (torch.where(x < 0, -y, y) + 1)


def _mish(x: Tensor) -> Tensor:
    e = _exp(x.clamp(max=20.0))
    n = e * (e + 2)
    return x * (n / (n + 2))


SIXTH = torch.tensor(1 / 6, dtype=torch.float32)
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sigmoid": lambda x, _: _sigmoid(x),
    "tanh": lambda x, _: _tanh(x),
    "silu": lambda x, _: x * _sigmoid(x),
    "gelu": lambda x, _: _gelu(x),
    "gelu_tanh": lambda x, _: (x * 0.5) * (_tanh((x * 0.7978845608) * ((x * x) * 0.044715 + 1)) + 1),
    "mish": lambda x, _: _mish(x),
    "elu": lambda x, alpha: torch.where(x > 0, x, (_exp(x.clamp(max=0.0)) - 1) * alpha),
    "leaky_relu": lambda x, slope: torch.where(x > 0, x, x * slope),
    "hardsigmoid": lambda x, _: (x + 3).clamp(0, 6) * SIXTH,
    "hardswish": lambda x, _: x * ((x + 3).clamp(0, 6) * SIXTH),
}


def _lane_sum(x: Tensor) -> Tensor:
    """Σ of x (B, n) in 16 lanes, whose halves are then added."""
    lanes = [torch.zeros(len(x)) for _ in range(16)]
    for i in range(x.shape[1]):
        lanes[i % 16] = lanes[i % 16] + x[:, i]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [a + b for a, b in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def _softmax(x: Tensor) -> Tensor:
    e = _exp(x - x.amax(1, keepdim=True))
    return e / _lane_sum(e)[:, None]


def _normalize(op: Op, x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    size = op.source[0] // op.groups
    places = [(slice(None), slice(None))] if op.whole else [*np.ndindex(x.shape[2:])]
    for group in range(op.groups):
        channels = slice(group * size, (group + 1) * size)
        for row, column in places:
            part = x[:, channels, row, column]
            flat = (part.permute(0, 2, 3, 1) if op.whole else part).reshape(len(x), -1)
            count = torch.tensor(float(flat.shape[1]))
            if op.center:
                flat = flat - (_lane_sum(flat) / count)[:, None]
            spread = _lane_sum(flat * flat) / count + op.parameter
            flat = flat * (1 / spread.double().sqrt().float())[:, None]  # torch's own root may err in the last place
            back = flat.reshape(len(x), *x.shape[2:], size).permute(0, 3, 1, 2) if op.whole else flat
            out[:, channels, row, column] = back
    return out


def _matmul(op: Op, x: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros(len(x), *op.shape)
    for k in range(op.source[0]):
        other = y[:, k].transpose(1, 2) if op.transposed else y[..., k]  # (B, N, H): number k of each row of y
        total = total + x[:, None, k] * other[..., None]
    return total


def _recurrent(op: Op, x: Tensor, sample: int) -> Tensor:
    """Torch's equations, step by step; x (B, gates · C, 1, T)."""
    h = c = torch.zeros(len(x), op.shape[0])
    states = {}
    for t in sorted(range(x.shape[3]), reverse=op.reverse):
        gi, gh = x[:, :, 0, t], _run(op.product, [h[:, :, None, None]], sample)[:, :, 0, 0]
        if op.function == "gru":
            (ir, iz, inew), (hr, hz, hn) = gi.chunk(3, 1), gh.chunk(3, 1)
            r, z = _sigmoid(ir + hr), _sigmoid(iz + hz)
            h = (1 - z) * _tanh(inew + r * hn) + z * h
        elif op.function == "lstm":
            i, f, g, o = (gi + gh).chunk(4, 1)
            c = _sigmoid(f) * c + _sigmoid(i) * _tanh(g)
            h = _sigmoid(o) * _tanh(c)
        else:
            h = _tanh(gi + gh) if op.function == "rnn_tanh" else (gi + gh).clamp(min=0)
        states[t] = h
    return torch.stack([states[t] for t in range(x.shape[3])], -1)[:, :, None]


def _view(op: Op, x: Tensor) -> Tensor:
    assert op.view is not None
    memory = x.permute(0, 2, 3, 1).reshape(len(x), -1)
    places = [
        op.view.offset + sum(i * s for i, s in zip(index, op.view.strides, strict=True))
        for index in np.ndindex(op.view.sizes)
    ]
    channels, height, width = op.shape
    return memory[:, places].reshape(len(x), height, width, channels).permute(0, 3, 1, 2)


def quantize(x: Tensor, activation: Activation) -> tuple[Tensor, Tensor, Tensor]:
    """Levels q (B, C, H, W) int64 of x, and per input step s (B, 1, 1, 1) and zero z, with x ≈ s (q − z)."""
    top = activation.levels
    if activation.step is not None:
        step = torch.full((len(x), 1, 1, 1), activation.step)
        zero = torch.full((len(x), 1, 1, 1), float(activation.zero))
    else:
        low = x.amin((1, 2, 3), keepdim=True).clamp(max=0)
        high = x.amax((1, 2, 3), keepdim=True).clamp(min=0)
        step = ((high - low) / (2 * top)).clamp(min=MIN_STEP)
        zero = torch.round((-low * (1 / step)).clamp(0, 2 * top)) - top
    scaled = torch.minimum(torch.maximum(x * (1 / step), -top - zero), top - zero)
    return (torch.round(scaled) + zero).long(), step, zero.long()


def _binary(op: Op, x: Tensor, sample: int) -> Tensor:
    assert op.activation is not None
    assert op.bits is not None
    weight = unpack_signs(op.bits[sample], op.weight_shape)
    if op.activation.kind == "sign":
        meaning, step = torch.where(x >= 0, 1, -1), torch.ones(())
    else:
        levels, step, zero = quantize(x, op.activation)
        meaning = levels - zero
    per_group = op.shape[0] // op.groups
    total = torch.zeros(len(x), *op.shape, dtype=torch.int64)
    for i, j, patch in _windows(op, meaning, 0):
        for output in range(op.shape[0]):
            group = output // per_group
            members = patch.reshape(len(patch), op.groups, -1, *patch.shape[2:])[:, group]
            total[:, output] += (members * weight[output, :, i, j].reshape(1, -1, 1, 1)).sum(1)
    return total.float() * (step * _channels(op.scale)) + _channels(op.shift)


def _real(op: Op, x: Tensor) -> Tensor:
    weight = torch.from_numpy(np.array(op.weight, np.float32))
    total = torch.zeros(len(x), *op.shape)
    per_group = op.shape[0] // op.groups
    source = torch.arange(op.shape[0]) // per_group * weight.shape[1]
    for i, j, patch in _windows(op, x, 0):
        for channel in range(weight.shape[1]):
            total = total + patch[:, source + channel] * weight[:, channel, i, j].reshape(1, -1, 1, 1)
    return total


def _windows(op: Op, x: Tensor, empty: float) -> Iterator[tuple[int, int, Tensor]]:
    """(i, j, patch) for each tap of the kernel: the (B, C, H′, W′) values it meets, `empty` in the padding."""
    (top, left), (_, height, width) = op.padding, op.shape
    padded = torch.full((len(x), x.shape[1], x.shape[2] + 2 * top, x.shape[3] + 2 * left), empty, dtype=x.dtype)
    padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    for i in range(op.kernel[0]):
        for j in range(op.kernel[1]):
            rows = torch.arange(height) * op.stride[0] + i * op.dilation[0]
            columns = torch.arange(width) * op.stride[1] + j * op.dilation[1]
            yield i, j, padded[:, :, rows][:, :, :, columns]


def _clamp(x: Tensor, op: Op) -> Tensor:
    return torch.where(x > op.low, x, op.low).clamp(max=op.high)


def _channels(values: NDArray[np.float32] | None) -> Tensor:
    return torch.from_numpy(np.array(values, np.float32)).reshape(1, -1, 1, 1)
