"""Pools, and means over axes, which are pools."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from ..builder import Builder, Handler, argument
from ..steps import Step, UnsupportedError
from ..values import BATCH, Value, batch_axis
from .layers import window_size


def _pool(kind: str) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        value = build.first(build.source(node))
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        if module is not None:
            settings = {name: getattr(module, name, None) for name in names}
            extra = getattr(module, "dilation", 1)
            divisor = getattr(module, "divisor_override", None)
            includes = getattr(module, "count_include_pad", True)
        else:
            settings = {name: argument(build, node, i + 1, name, None) for i, name in enumerate(names[:3])}
            settings["ceil_mode"] = node.kwargs.get("ceil_mode", False)
            extra, divisor = node.kwargs.get("dilation", 1), node.kwargs.get("divisor_override")
            includes = node.kwargs.get("count_include_pad", True)
            if len(node.args) > 4:
                raise UnsupportedError(f"{node.name!r}: name ceil_mode and what follows it")
        rank = len(value.shape) - 1

        def spread(given: Any) -> list[int]:
            return [int(given)] * rank if isinstance(given, int) else [int(v) for v in given]

        kernel = spread(settings["kernel_size"])
        stride, padding = spread(settings["stride"] or kernel), spread(settings["padding"] or 0)
        if settings["ceil_mode"] or set(spread(extra)) != {1} or divisor is not None:
            raise UnsupportedError(f"{node.name!r}: ceil_mode, dilation or divisor_override of a pool")
        if any(padding) and not includes:
            raise UnsupportedError(f"{node.name!r}: count_include_pad=False")
        output = (value.shape[0], *window_size(value.shape, kernel, stride, padding, [1] * rank))
        entry = {"op": kind, "kernel": kernel, "stride": stride, "padding": padding}
        build.values[node] = build.add(Step(entry, [value.index]), output)

    return handle


def _adaptive_pool(kind: str) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        value = build.first(build.source(node))
        shape = value.shape
        wanted = module.output_size if module is not None else argument(build, node, 1, "output_size", None)
        each = [wanted] * (len(shape) - 1) if wanted is None or isinstance(wanted, int) else list(wanted)
        sizes = [n if size is None else int(size) for n, size in zip(shape[1:], each, strict=True)]
        if any(n % size for n, size in zip(shape[1:], sizes, strict=True)):
            raise UnsupportedError(f"{node.name!r}: adaptive pooling of {shape[1:]} to {sizes}, not a whole ratio")
        kernel = [n // size for n, size in zip(shape[1:], sizes, strict=True)]
        entry = {"op": kind, "kernel": kernel, "stride": kernel}
        build.values[node] = build.add(Step(entry, [value.index]), (shape[0], *sizes))

    return handle


def _over_axes(kind: str, total: bool = False) -> Handler:
    """mean, sum or max over axes that are not the batch: a pool of all that is there."""

    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        value = build.source(node)
        dims, keep = argument(build, node, 1, "dim", None), bool(argument(build, node, 2, "keepdim", False))
        rank, batch = value.seen.ndim, batch_axis(value.seen, value.size)
        axes = [dims] if isinstance(dims, int) else list(dims or range(rank))
        axes = sorted({int(d) % rank for d in axes})
        if batch is None or batch in axes:
            raise UnsupportedError(f"{node.name!r}: it goes over the batch, or the batch is mixed with another size")
        back = sum(keep or axis not in axes for axis in range(batch))  # where the batch is in the end
        value, axes = value.viewed(lambda r: r.movedim(batch, 0)), [axis + (axis < batch) for axis in axes]
        stays = [n for i, n in enumerate(value.shape, 1) if i not in axes]
        over = math.prod(n for i, n in enumerate(value.shape, 1) if i in axes)
        window = [value.shape[i - 1] for i in axes]
        if not stays or len(window) > 2 or [*range(2, 2 + len(axes))] != axes or rank > 4:  # else as they are stored
            window = [over]
        target = value.viewed(lambda r: r.movedim(axes, [*range(rank - len(axes), rank)]).reshape(
            BATCH, math.prod(stays), *window))  # fmt: skip
        placed = build.first(target)
        step = Step({"op": kind, "kernel": window, "stride": window}, [placed.index])
        shape = (math.prod(stays), *[1] * len(window))
        index = build.add(step, shape).index
        if total:
            index = build.affine(index, torch.tensor(float(over)).double(), [])
        kept = [1 if i in axes else n for i, n in enumerate(value.shape, 1)] if keep else stays
        build.values[node] = Value(index, shape).viewed(lambda r: r.reshape(BATCH, *kept).movedim(0, back))

    return handle


MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d), _pool("max_pool")),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d), _pool("avg_pool")),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), _adaptive_pool("avg_pool")),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), _adaptive_pool("max_pool")),
}
FUNCTIONS: dict[Any, Handler] = {
    **dict.fromkeys((F.max_pool1d, F.max_pool2d), _pool("max_pool")),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d), _pool("avg_pool")),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d), _adaptive_pool("avg_pool")),
    **dict.fromkeys((F.adaptive_max_pool1d, F.adaptive_max_pool2d), _adaptive_pool("max_pool")),
    **dict.fromkeys((torch.mean, "mean"), _over_axes("avg_pool")),
    **dict.fromkeys((torch.sum, "sum"), _over_axes("avg_pool", total=True)),
    **dict.fromkeys((torch.amax, "amax"), _over_axes("max_pool")),
}
