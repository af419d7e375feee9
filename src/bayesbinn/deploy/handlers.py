"""What each of torch's modules, functions and methods becomes: operations of the format (see `docs/format.md`)."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .. import bernoulli
from ..nn import BinaryConv1d, BinaryConv2d, BinaryLayer, BinaryLinear
from .builder import Builder, Handler, Step, UnsupportedError


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _layer(build: Builder, node: fx.Node, module: Any) -> None:
    name = str(node.target)
    index, shape = build.source(node)
    binary = isinstance(module, BinaryLayer)
    linear = isinstance(module, (nn.Linear, BinaryLinear))
    entry: dict[str, Any] = {"op": ("binary" if binary else "real") + ("_linear" if linear else "_conv"), "name": name}
    weight = module.weight
    if linear:
        if len(shape) != 1 or shape[0] != module.in_features:
            raise UnsupportedError(
                f"layer {name!r} gets shape {shape}, needs ({module.in_features},): flatten before it"
            )
        entry["features"] = int(module.out_features)
        output: tuple[int, ...] = (int(module.out_features),)
    else:
        if len(shape) != weight.ndim - 1 or shape[0] != module.in_channels:
            raise UnsupportedError(f"layer {name!r} gets an input of shape {shape}")
        if module.padding_mode != "zeros" and any(_padding(module)):
            raise UnsupportedError(f"layer {name!r}: padding_mode {module.padding_mode!r}")
        window = {
            "kernel": list(module.kernel_size),
            "stride": list(module.stride),
            "padding": _padding(module),
            "dilation": list(module.dilation),
        }
        entry |= {"channels": int(module.out_channels), **window, "groups": int(module.groups)}
        output = (int(module.out_channels), *_window_size(shape, **window))
    shift = weight.new_zeros(weight.shape[0]) if module.bias is None else module.bias
    shift = shift.detach().cpu().double()
    scale = module.scales.cpu().double() if binary else torch.ones_like(shift)
    step = Step(entry, [index], scale=scale, shift=shift, size=shift.abs())
    if binary:
        step.layer = name
    else:
        step.weight = weight.detach().cpu().float()
    build.append(node, step, output)


def _padding(module: Any) -> list[int]:
    if module.padding == "valid":
        return [0] * len(module.kernel_size)
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(n % 2 for n in total):
            raise UnsupportedError("padding 'same' with an even kernel, which pads one side more")
        return [n // 2 for n in total]
    return list(module.padding)


def _window_size(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
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
    build.affine(node, scale, shifts, str(node.target))


def _pool(kind: str) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        index, shape = build.source(node)
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        if module is not None:
            settings = {name: getattr(module, name, None) for name in names}
            extra = getattr(module, "dilation", 1)
            divisor = getattr(module, "divisor_override", None)
            includes = getattr(module, "count_include_pad", True)
        else:
            settings = {name: _argument(node, i + 1, name, None) for i, name in enumerate(names[:3])}
            settings["ceil_mode"] = node.kwargs.get("ceil_mode", False)
            extra, divisor = node.kwargs.get("dilation", 1), node.kwargs.get("divisor_override")
            includes = node.kwargs.get("count_include_pad", True)
            if len(node.args) > 4:
                raise UnsupportedError(f"{node.name!r}: name ceil_mode and what follows it")
        rank = len(shape) - 1

        def spread(value: Any) -> list[int]:
            return [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]

        kernel = spread(settings["kernel_size"])
        stride, padding = spread(settings["stride"] or kernel), spread(settings["padding"] or 0)
        if settings["ceil_mode"] or set(spread(extra)) != {1} or divisor is not None:
            raise UnsupportedError(f"{node.name!r}: ceil_mode, dilation or divisor_override of a pool")
        if any(padding) and not includes:
            raise UnsupportedError(f"{node.name!r}: count_include_pad=False")
        output = (shape[0], *_window_size(shape, kernel, stride, padding, [1] * rank))
        entry = {"op": kind, "kernel": kernel, "stride": stride, "padding": padding}
        build.append(node, Step(entry, [index]), output)

    return handle


def _adaptive_pool(kind: str) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        index, shape = build.source(node)
        wanted = module.output_size if module is not None else _argument(node, 1, "output_size", None)
        each = [wanted] * (len(shape) - 1) if wanted is None or isinstance(wanted, int) else list(wanted)
        sizes = [n if size is None else int(size) for n, size in zip(shape[1:], each, strict=True)]
        if any(n % size for n, size in zip(shape[1:], sizes, strict=True)):
            raise UnsupportedError(f"{node.name!r}: adaptive pooling of {shape[1:]} to {sizes}, not a whole ratio")
        kernel = [n // size for n, size in zip(shape[1:], sizes, strict=True)]
        build.append(node, Step({"op": kind, "kernel": kernel, "stride": kernel}, [index]), (shape[0], *sizes))

    return handle


def _identity(build: Builder, node: fx.Node, module: Any) -> None:
    build.alias(node)


def _clamp(low: float | None, high: float | None) -> Handler:
    return lambda build, node, module: build.clamp(node, low, high)


def _hardtanh(build: Builder, node: fx.Node, module: Any) -> None:
    if module is not None:
        low, high = module.min_val, module.max_val
    else:
        low, high = _argument(node, 1, "min_val", -1.0), _argument(node, 2, "max_val", 1.0)
    build.clamp(node, float(low), float(high))


def _clamp_function(build: Builder, node: fx.Node, module: Any) -> None:
    low, high = _argument(node, 1, "min", None), _argument(node, 2, "max", None)
    if not all(n is None or isinstance(n, (int, float)) for n in (low, high)):
        raise UnsupportedError(f"{node.name!r}: clamp to something that is not a number")
    build.clamp(node, None if low is None else float(low), None if high is None else float(high))


def _sign(build: Builder, node: fx.Node, module: Any) -> None:
    index, shape = build.source(node)
    build.append(node, Step({"op": "sign"}, [index]), shape)


def _flatten(build: Builder, node: fx.Node, module: Any) -> None:
    index, shape = build.source(node)
    if module is not None:
        start, end = module.start_dim, module.end_dim
    else:
        start, end = _argument(node, 1, "start_dim", 0), _argument(node, 2, "end_dim", -1)
    if start != 1 or end not in (-1, len(shape)):
        raise UnsupportedError(f"{node.name!r}: flatten of anything but all sizes after the batch")
    if len(shape) == 1:
        return build.alias(node)
    build.append(node, Step({"op": "flatten"}, [index]), (math.prod(shape),))


def _mean(build: Builder, node: fx.Node, module: Any) -> None:
    """mean over all spatial sizes: global average pooling."""
    index, shape = build.source(node)
    dims = _argument(node, 1, "dim", None)
    keep = bool(_argument(node, 2, "keepdim", False))
    rank = len(shape)
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    if rank == 1 or sorted(d % (rank + 1) for d in dims) != list(range(2, rank + 1)):
        raise UnsupportedError(f"{node.name!r}: mean over anything but all spatial sizes")
    kernel = list(shape[1:])
    pooled = Step({"op": "avg_pool", "kernel": kernel, "stride": kernel}, [index])
    build.append(node, pooled, (shape[0], *[1] * (rank - 1)))
    if not keep:
        build.append(node, Step({"op": "flatten"}, [len(build.steps)]), (shape[0],))


def _arithmetic(name: str) -> Handler:
    """a ± b, a · b or a / b: of two values (only a + b), or of a value and a constant per channel or for all."""

    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        if len(node.args) != 2 or node.kwargs:
            raise UnsupportedError(f"{node.name!r}: {name} with settings")
        left, right = node.args
        values = [a for a in (left, right) if isinstance(a, fx.Node) and a in build.values]
        if len(values) == 2:
            (first, shape), (second, other) = build.values[values[0]], build.values[values[1]]
            if name != "add" or shape != other:
                raise UnsupportedError(f"{node.name!r}: {name} of two values of shapes {shape} and {other}")
            return build.append(node, Step({"op": "add"}, [first, second]), shape)
        if not values or (name == "div" and values[0] is right):
            raise UnsupportedError(f"{node.name!r}: {name} of anything but a value and a constant")
        constant = _constant(build, node, right if values[0] is left else left, len(build.values[values[0]][1]))
        one, nought = torch.ones(()).double(), torch.zeros(()).double()
        scale, shift = {
            "add": (one, constant),
            "sub": (one, -constant) if values[0] is left else (-one, constant),
            "mul": (constant, nought),
            "div": (1 / constant, nought),
        }[name]
        if not bool(torch.isfinite(scale).all() and torch.isfinite(shift).all()):
            raise UnsupportedError(f"{node.name!r}: {name} with a constant that is not finite")
        build.affine(node, scale, [shift], node.name, values[0])

    return handle


def _constant(build: Builder, node: fx.Node, argument: Any, rank: int) -> Tensor:
    """A number or tensor as float64, of one element or one per channel."""
    found = build.constants.get(argument) if isinstance(argument, fx.Node) else argument
    if not isinstance(found, (int, float, Tensor)):
        raise UnsupportedError(f"{node.name!r}: its constant is {found!r}, not a number or tensor")
    constant = torch.as_tensor(found).detach().cpu().double()
    sizes = [1] * (rank - constant.ndim) + list(constant.shape)
    if constant.numel() != 1 and math.prod(sizes[-rank + 1 :] if rank > 1 else [1]) != 1:
        raise UnsupportedError(
            f"{node.name!r}: a constant of shape {tuple(constant.shape)}, not one number per channel"
        )
    return constant.reshape(-1)


MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((BinaryLinear, BinaryConv1d, BinaryConv2d, nn.Linear, nn.Conv1d, nn.Conv2d), _layer),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _batch_norm),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), _identity),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d), _pool("max_pool")),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d), _pool("avg_pool")),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), _adaptive_pool("avg_pool")),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), _adaptive_pool("max_pool")),
    nn.ReLU: _clamp(0.0, None),
    nn.ReLU6: _clamp(0.0, 6.0),
    nn.Hardtanh: _hardtanh,
    nn.Flatten: _flatten,
}
FUNCTIONS: dict[Any, Handler] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), _clamp(0.0, None)),
    F.relu6: _clamp(0.0, 6.0),
    F.hardtanh: _hardtanh,
    **dict.fromkeys((torch.clamp, torch.clamp_, "clamp", "clamp_"), _clamp_function),
    **dict.fromkeys((bernoulli.sign,), _sign),
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, "contiguous"), _identity),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d), _pool("max_pool")),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d), _pool("avg_pool")),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d), _adaptive_pool("avg_pool")),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _arithmetic("add")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _arithmetic("sub")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _arithmetic("mul")),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _arithmetic("div")),
}
