"""Transposed convolutions: zeros between the pixels, then an ordinary convolution with its kernel turned around."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from ...nn import BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryLayer
from ..builder import Builder, Handler, argument
from ..steps import Step, UnsupportedError
from ..values import BATCH, Value
from .layers import layer_step, window_size


def as_convolution(weight: Tensor, groups: int) -> Tensor:
    """The weight (I, O/groups, ...) of a transposed convolution as that of a convolution, (O, I/groups, ...)."""
    split = weight.reshape(groups, len(weight) // groups, *weight.shape[1:]).transpose(1, 2)
    return split.flip(tuple(range(3, split.ndim))).reshape(-1, split.shape[2], *weight.shape[2:])


def _join(build: Builder, value: Value, count: int, axis: int) -> Value:
    """`count` zeros behind the numbers along an axis of a stored value."""
    if not count:
        return value
    shape = list(value.stored)
    shape[axis] = count
    zeros = build.constant(torch.zeros(shape))
    shape[axis] += value.stored[axis]
    return build.add(Step({"op": "concat", "axis": axis}, [value.index, zeros.index]), tuple(shape))


def _spread(build: Builder, value: Value, stride: int, axis: int) -> Value:
    """stride − 1 zeros between the numbers along an axis (1: the first behind the channels)."""
    shape = value.shape
    if stride == 1:
        return value
    before = shape[:axis]
    size, behind = shape[axis], shape[axis + 1 :]
    flat = value.viewed(lambda r: r.reshape(BATCH, -1, 1, *(behind or (1,))))
    wide = _join(build, build.first(flat), stride - 1, 1)
    spread = wide.viewed(lambda r: r.reshape(BATCH, *before, size * stride, *behind))
    return spread.viewed(lambda r: r.narrow(1 + axis, 0, (size - 1) * stride + 1))


def _transposed(build: Builder, node: fx.Node, module: Any) -> None:
    value, name, spatial = build.first(build.source(node)), str(node.target), module.weight.ndim - 2
    if argument(build, node, 1, "output_size", None) is not None:
        raise UnsupportedError(f"layer {name!r}: output_size")
    if len(value.shape) != spatial + 1 or value.shape[0] != module.in_channels:
        raise UnsupportedError(f"layer {name!r} gets an input of shape {value.shape}")
    edges = [d * (k - 1) - p for d, k, p in zip(module.dilation, module.kernel_size, module.padding, strict=True)]
    if min(edges) < 0:
        raise UnsupportedError(f"layer {name!r}: padding beyond its kernel")
    for axis, (stride, extra) in enumerate(zip(module.stride, module.output_padding, strict=True), 1):
        value = build.first(_spread(build, value, stride, axis))
        value = _join(build, value, extra, axis)
    binary, outputs = isinstance(module, BinaryLayer), int(module.out_channels)
    weight = None if binary else as_convolution(module.weight.detach(), module.groups)
    window = {"kernel": list(module.kernel_size), "padding": edges, "dilation": list(module.dilation)}
    entry = {"op": "binary_conv" if binary else "real_conv", "name": name, "channels": outputs, **window}
    scale = module.scales if binary else None
    step = layer_step({**entry, "groups": int(module.groups)}, value, weight, scale, module.bias, outputs)
    build.values[node] = build.add(step, (outputs, *window_size(value.shape, stride=[1] * spatial, **window)))


MODULES: dict[type[nn.Module], Handler] = dict.fromkeys(
    (nn.ConvTranspose1d, nn.ConvTranspose2d, BinaryConvTranspose1d, BinaryConvTranspose2d), _transposed
)
FUNCTIONS: dict[Any, Handler] = {}
