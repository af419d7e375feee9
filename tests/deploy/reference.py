"""What a packed network computes: the slow, obvious integer reference in torch.

Every engine (numpy, and C for each instruction set) must give the outputs of `reference` exactly.  Sums are int64,
written tap by tap; each float32 operation is one torch operation, so that nothing is reordered or fused.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayesbinn.deploy import unpack_signs
from bayesbinn.runtime.program import MIN_STEP, Activation, Op, Program


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
    for op in program.ops:
        values.append(_run(op, [values[i] for i in op.inputs], sample))
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
    raise AssertionError(op.kind)


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
