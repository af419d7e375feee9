"""Layers with weights, and batch norm."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ...nn import BinaryConv1d, BinaryConv2d, BinaryLayer, BinaryLinear
from ..builder import Builder, Handler
from ..steps import Step, UnsupportedError
from ..values import Value


def _layer(build: Builder, node: fx.Node, module: Any) -> None:
    binary: Any = isinstance(module, BinaryLayer)
    scale = module.scales if binary else None
    weight = None if binary else module.weight
    name = str(node.target)
    if isinstance(module, (nn.Linear, BinaryLinear)):
        layer: Any = module
        sizes = (int(layer.out_features), int(layer.in_features))
        build.values[node] = linear(build, build.source(node), name, sizes, weight, scale, module.bias)
        return
    value = build.first(build.source(node))
    shape = value.shape
    if len(shape) != module.weight.ndim - 1 or shape[0] != module.in_channels:
        raise UnsupportedError(f"layer {name!r} gets an input of shape {shape}")
    if module.padding_mode != "zeros" and any(_padding(module)):
        raise UnsupportedError(f"layer {name!r}: padding_mode {module.padding_mode!r}")
    window = {
        "kernel": list(module.kernel_size),
        "stride": list(module.stride),
        "padding": _padding(module),
        "dilation": list(module.dilation),
    }
    outputs = int(module.out_channels)
    entry = {"op": "binary_conv" if binary else "real_conv", "name": name, "channels": outputs}
    step = layer_step({**entry, **window, "groups": int(module.groups)}, value, weight, scale, module.bias, outputs)
    build.values[node] = build.add(step, (outputs, *window_size(shape, **window)))


def linear(
    build: Builder, value: Value, name: str, sizes: tuple[int, int], weight: Tensor | None, scale: Tensor | None,
    bias: Tensor | None,
) -> Value:  # fmt: skip
    """x Wᵀ over the last axis: with a real weight (O, I), or with the signs of layer `name` and scales (O,)."""
    outputs, inputs = sizes
    rows, tensor = build.rows(value)
    if rows.stored[0] != inputs:
        raise UnsupportedError(f"layer {name!r} gets shape {value.shape}, needs (..., {inputs}): flatten before it")
    kind = "real" if weight is not None else "binary"
    rank = len(rows.stored) - 1
    entry: dict[str, Any] = {"op": f"{kind}_conv", "name": name, "channels": outputs, "kernel": [1] * rank}
    if rank == 0:
        entry = {"op": f"{kind}_linear", "name": name, "features": outputs}
    if weight is not None:
        weight = weight.reshape(outputs, inputs, *[1] * rank)
    scale = torch.ones(outputs) if scale is None else scale
    shape = (outputs, *rows.stored[1:])
    return tensor(build.add(layer_step(entry, rows, weight, scale, bias, outputs), shape).index, shape)


def layer_step(
    entry: dict[str, Any], value: Value, weight: Tensor | None, scale: Tensor | None, bias: Tensor | None, outputs: int
) -> Step:
    """The step of a layer with a real weight, or with the signs of the layer that the entry names, and scales."""
    shift = torch.zeros(outputs) if bias is None else bias
    shift = shift.detach().cpu().double()
    scale = torch.ones_like(shift) if scale is None else scale.detach().cpu().double()
    step = Step(entry, [value.index], scale=scale, shift=shift, size=shift.abs())
    if weight is None:
        step.layer = entry["name"]
    else:
        step.weight = weight.detach().cpu().float()
    return step


def _linear_function(build: Builder, node: fx.Node, module: Any) -> None:
    """F.linear with a weight that is a parameter."""
    args = build.resolve(node.args)
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | build.resolve(node.kwargs)
    weight, bias = given["weight"], given.get("bias")
    if not isinstance(weight, Tensor) or isinstance(bias, Value) or weight.ndim != 2:
        raise UnsupportedError(f"{node.name!r}: a weight that depends on the input, or is no matrix")
    sizes = (int(weight.shape[0]), int(weight.shape[1]))
    build.values[node] = linear(build, build.source(node), node.name, sizes, weight, None, bias)


def _padding(module: Any) -> list[int]:
    if module.padding == "valid":
        return [0] * len(module.kernel_size)
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(n % 2 for n in total):
            raise UnsupportedError("padding 'same' with an even kernel, which pads one side more")
        return [n // 2 for n in total]
    return list(module.padding)


def window_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Spatial sizes after a window has gone over (C, ...)."""
    sizes = zip(shape[1:], kernel, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)


def _batch_norm(build: Builder, node: fx.Node, module: Any) -> None:
    if module.running_mean is None or module.running_var is None:
        raise UnsupportedError(f"{node.target!r}: batch norm without running statistics")
    scale = (module.running_var.detach().double() + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach().double()
    shifts = [-module.running_mean.detach().double() * scale]
    if module.bias is not None:
        shifts.append(module.bias.detach().double())
    value = build.first(build.source(node))
    build.values[node] = replace(value, index=build.affine(value.index, scale, shifts, str(node.target)))


MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((BinaryLinear, BinaryConv1d, BinaryConv2d, nn.Linear, nn.Conv1d, nn.Conv2d), _layer),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _batch_norm),
}
FUNCTIONS: dict[Any, Handler] = {F.linear: _linear_function}
