"""The float twin of a packed program, in torch: the same bits, scales and wiring, with activations that stay float."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime.numpy_engine import channels_last, signs, view_indices
from ..runtime.operation import Op
from ..runtime.program import Program


def weights(program: Program, sample: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    """Per operation the weights (O, I/groups, kH, kW) of network `sample` (0: the mode), or None."""
    found = [op.weight if op.bits is None else signs(op, sample) for op in program.ops]
    return [None if weight is None else torch.from_numpy(np.array(weight)).to(dtype) for weight in found]


def inner(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with batch, (B, C), (B, C, L) or (B, C, H, W), as programs hold it: (B, C, H, W)."""
    batch, channels, *spatial = shape
    return (batch, channels, *[1, 1, *spatial][-2:])


def forward(program: Program, x: Tensor, of_ops: list[Tensor | None]) -> Tensor:
    """The output (B, *output shape) for x (B, *input shape), with weights from `weights`, in their type."""
    return values(program, x, of_ops)[-1].reshape(len(x), *program.output_shape)


def values(program: Program, x: Tensor, of_ops: list[Tensor | None]) -> list[Tensor]:
    """All values (B, C, H, W) of the program for x (B, *input shape)."""
    found = [x.reshape(inner(x.shape))]
    for op, weight in zip(program.ops, of_ops, strict=True):
        found.append(run_op(op, [found[i] for i in op.inputs or (0,)], weight))
    return found


def run_op(op: Op, inputs: list[Tensor], weight: Tensor | None) -> Tensor:
    """One operation on (B, C, H, W) tensors."""
    x = inputs[0]
    if op.kind == "recurrent":
        assert weight is not None
        return _recurrent(op, x, weight)
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
    elif op.kind in FLOATS:
        y = FLOATS[op.kind](op, *inputs)
    else:
        y = x + inputs[1] if op.kind == "add" else x
    if op.scale is not None and op.shift is not None:
        scale, shift = (torch.from_numpy(np.array(v)).to(y.dtype).reshape(1, -1, 1, 1) for v in (op.scale, op.shift))
        y = torch.addcmul(shift, y, scale)
    return y.clamp(op.low, op.high) if (op.low, op.high) != (-np.inf, np.inf) else y


def normalized(op: Op, x: Tensor) -> tuple[Tensor, Tensor]:
    """x with mean 0 and mean square 1, and 1 over the standard deviation that it had, by which it was multiplied."""
    split = x.reshape(len(x), op.groups, -1, *x.shape[2:])
    axes = (2, 3, 4) if op.whole else (2,)
    if op.center:
        split = split - split.mean(axes, keepdim=True)
    inverse = (split.square().mean(axes, keepdim=True) + op.parameter).rsqrt()
    return (split * inverse).flatten(1, 2), inverse.expand_as(split).flatten(1, 2)


def view(op: Op, x: Tensor) -> Tensor:
    """The numbers that a view reads, in the shape of its output."""
    indices = torch.from_numpy(view_indices(op))
    return x.permute(0, 2, 3, 1).flatten(1)[:, indices].reshape(len(x), *channels_last(op.shape)).permute(0, 3, 1, 2)


def _matmul(op: Op, x: Tensor, y: Tensor) -> Tensor:
    """x (K, H, M) times y (K, H, N) or (N, H, K)."""
    x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
    return (x @ (y.transpose(2, 3) if op.transposed else y)).permute(0, 3, 1, 2)


def _recurrent(op: Op, x: Tensor, weight: Tensor) -> Tensor:
    """The states (B, C, 1, T) for the products x (B, gates · C, 1, T)."""
    product, steps = op.product, x.shape[3]
    h = c = x.new_zeros(len(x), op.shape[0])
    states: dict[int, Tensor] = {}
    for t in reversed(range(steps)) if op.reverse else range(steps):
        gi, gh = x[:, :, 0, t], run_op(product, [h[:, :, None, None]], weight)[:, :, 0, 0]
        if op.function == "gru":
            (r, z), n = (gi + gh).chunk(3, 1)[:2], gh.chunk(3, 1)[2]
            z = torch.sigmoid(z)
            h = (1 - z) * torch.tanh(gi.chunk(3, 1)[2] + torch.sigmoid(r) * n) + z * h
        elif op.function == "lstm":
            i, f, g, o = (gi + gh).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            h = torch.tanh(gi + gh) if op.function == "rnn_tanh" else (gi + gh).clamp(min=0)
        states[t] = h
    return torch.stack([states[t] for t in range(steps)], -1)[:, :, None]


def _constant(op: Op, x: Tensor) -> Tensor:
    return torch.from_numpy(np.array(op.value)).to(x.dtype).expand(len(x), *op.shape)


TORCH: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x),
    "silu": lambda x, _: F.silu(x),
    "gelu": lambda x, _: F.gelu(x),
    "gelu_tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "mish": lambda x, _: F.mish(x),
    "elu": lambda x, alpha: F.elu(x, alpha),
    "leaky_relu": lambda x, slope: F.leaky_relu(x, slope),
    "hardsigmoid": lambda x, _: F.hardsigmoid(x),
    "hardswish": lambda x, _: F.hardswish(x),
}
FLOATS: dict[str, Callable[..., Tensor]] = {
    "multiply": lambda op, x, y: x * y,
    "function": lambda op, x: TORCH[op.function](x, op.parameter),
    "normalize": lambda op, x: normalized(op, x)[0],
    "softmax": lambda op, x: x.softmax(1),
    "matmul": _matmul,
    "concat": lambda op, x, y: torch.cat([x, y], 1 + op.axis),
    "view": view,
    "constant": _constant,
}


def sign(x: Tensor) -> Tensor:
    """+1 where x ≥ 0, −1 elsewhere."""
    return 2 * (x >= 0).to(x.dtype) - 1
