"""The float twin of a packed program, in torch: the same bits, scales and wiring, with activations that stay float."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.numpy_engine import signs
from ..runtime.program import Op, Program


def weights(program: Program, sample: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    """Per operation the weights (O, I/groups, kH, kW) of network `sample` (0: the mode), or None."""
    found = [signs(op, sample) if op.kind == "binary" else op.weight for op in program.ops]
    return [None if weight is None else torch.from_numpy(np.array(weight)).to(dtype) for weight in found]


def inner(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with batch, (B, C), (B, C, L) or (B, C, H, W), as programs hold it: (B, C, H, W)."""
    batch, channels, *spatial = shape
    return (batch, channels, *[1, 1, *spatial][-2:])


def forward(program: Program, x: Tensor, of_ops: list[Tensor | None]) -> Tensor:
    """The output (B, *output shape) for x (B, *input shape), with weights from `weights`, in their type."""
    values = [x.reshape(inner(x.shape))]
    for op, weight in zip(program.ops, of_ops, strict=True):
        values.append(run_op(op, [values[i] for i in op.inputs], weight))
    return values[-1].reshape(len(x), *program.output_shape)


def run_op(op: Op, inputs: list[Tensor], weight: Tensor | None) -> Tensor:
    """One operation on (B, C, H, W) tensors."""
    x = inputs[0]
    if weight is not None:
        if op.activation is not None and op.activation.kind == "sign":
            x = sign(x)
        if op.rank == 1:
            y = F.linear(x.flatten(1), weight.flatten(1))[:, :, None, None]
        else:
            y = F.conv2d(x, weight, None, op.stride, op.padding, op.dilation, op.groups)
    elif op.kind == "max_pool":
        return F.max_pool2d(x, op.kernel, op.stride, op.padding)
    elif op.kind == "avg_pool":
        y = F.avg_pool2d(x, op.kernel, op.stride, op.padding)
    elif op.kind == "sign":
        return sign(x)
    elif op.kind == "flatten":
        return x.flatten(1)[:, :, None, None]
    else:
        y = x + inputs[1] if op.kind == "add" else x
    if op.scale is not None and op.shift is not None:
        scale, shift = (torch.from_numpy(np.array(v)).to(y.dtype).reshape(1, -1, 1, 1) for v in (op.scale, op.shift))
        y = torch.addcmul(shift, y, scale)
    return y.clamp(op.low, op.high) if (op.low, op.high) != (-np.inf, np.inf) else y


def sign(x: Tensor) -> Tensor:
    """+1 where x ≥ 0, −1 elsewhere."""
    return 2 * (x >= 0).to(x.dtype) - 1
