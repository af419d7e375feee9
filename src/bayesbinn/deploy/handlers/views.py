"""What only puts numbers into another order, or side by side."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..builder import Builder, Handler, argument
from ..steps import Step, UnsupportedError
from ..values import Value, from_rows
from .arithmetic import in_rows


def _same(build: Builder, node: fx.Node, module: Any) -> None:
    build.values[node] = build.source(node)


def _view(build: Builder, node: fx.Node, module: Any) -> None:
    """Any view of torch's: done to the indices of the numbers."""
    seen = build.source(node).seen
    if module is not None:
        found = module(seen)
    else:
        args = (seen, *build.resolve(node.args[1:]))
        kwargs = {name: value for name, value in build.resolve(node.kwargs).items() if name != "input"}
        name = (
            "reshape" if node.target == "view" else str(node.target)
        )  # how torch lays out the tensor is not known here
        call: Any = getattr(seen, name) if node.op == "call_method" else node.target
        found = call(*(args[1:] if node.op == "call_method" else args), **kwargs)
    _put(build, node, build.source(node), found)


def _put(build: Builder, node: fx.Node, value: Value, found: Any) -> None:
    if isinstance(found, (tuple, list)):
        build.constants[node] = tuple(Value(value.index, value.stored, part) for part in found)
    else:
        build.values[node] = Value(value.index, value.stored, found)


def _shape(build: Builder, node: fx.Node, module: Any) -> None:
    """x.size(), x.dim() and the like: of a tensor with `BATCH` inputs."""
    seen = build.source(node).seen
    build.constants[node] = getattr(seen, str(node.target))(*build.resolve(node.args[1:]))


def _attribute(build: Builder, node: fx.Node, module: Any) -> None:
    """getattr(x, name)."""
    name, value = str(node.args[1]), build.source(node)
    if name in ("T", "mT"):
        build.values[node] = value.viewed(operator.attrgetter(name))
    elif name in ("shape", "ndim"):
        build.constants[node] = getattr(value.seen, name)
    elif name in ("dtype", "device"):
        build.constants[node] = torch.float32 if name == "dtype" else torch.device("cpu")
    else:
        raise UnsupportedError(f"{node.name!r}: the attribute {name} of a tensor")


def _concat(build: Builder, node: fx.Node, module: Any) -> None:
    """cat and stack, of values and constants."""
    parts, dim = list(argument(build, node, 0, "tensors", None)), int(argument(build, node, 1, "dim", 0))
    if node.target is torch.stack:
        rank = next(p.seen.ndim for p in parts if isinstance(p, Value))
        dim %= rank + 1
        parts = [p.viewed(lambda r: r.unsqueeze(dim)) if isinstance(p, Value) else p.unsqueeze(dim) for p in parts]
    leader = next(p for p in parts if isinstance(p, Value))
    rank = len(leader.shape)
    axis = dim % (rank + 1) - 1
    if axis < 0 or rank > 3:
        raise UnsupportedError(f"{node.name!r}: it joins inputs of the batch, or tensors of more than three sizes")
    last = rank > 1 and any(isinstance(p, Value) and in_rows(p) for p in parts)
    placed: list[Value] = []
    for part in parts:
        value = part if isinstance(part, Value) else _constant(build, node, part, rank)
        placed.append(build.rows(value)[0] if last else build.first(value))
    at = (axis + 1) % rank if last else axis
    total = placed[0]
    for part in placed[1:]:
        shape = tuple(n + m * (i == at) for i, (n, m) in enumerate(zip(total.stored, part.stored, strict=True)))
        total = build.add(Step({"op": "concat", "axis": at}, [total.index, part.index]), shape)
    if last:
        like = tuple(total.stored[1:]) + total.stored[:1]
        total = Value(total.index, total.stored, from_rows(total.stored, like))
    build.values[node] = total


def _constant(build: Builder, node: fx.Node, tensor: Any, rank: int) -> Value:
    """A constant among what is joined: the same for every input."""
    if not isinstance(tensor, Tensor) or tensor.ndim != rank + 1 or not bool((tensor == tensor[:1]).all()):
        raise UnsupportedError(f"{node.name!r}: a constant that is not the same for every input of the batch")
    return build.spread(tensor[:1])


def _pad(build: Builder, node: fx.Node, module: Any) -> None:
    """Padding with a number, axis by axis."""
    value = build.first(build.source(node))
    widths = module.padding if module is not None else argument(build, node, 1, "pad", ())
    mode = "constant" if module is not None else argument(build, node, 2, "mode", "constant")
    fill = module.value if isinstance(module, nn.modules.padding._ConstantPadNd) and hasattr(module, "value") else (
        argument(build, node, 3, "value", None))  # fmt: skip
    if mode != "constant" or any(n < 0 for n in widths) or len(widths) > 2 * (len(value.shape)):
        raise UnsupportedError(f"{node.name!r}: padding of mode {mode!r}, or that cuts")
    for i in range(0, len(widths), 2):
        axis = len(value.shape) - 1 - i // 2
        for side, count in ((0, widths[i]), (1, widths[i + 1])):
            if not count:
                continue
            shape = [*value.shape[:axis], count, *value.shape[axis + 1 :]]
            edge = build.constant(torch.full(shape, float(fill or 0.0)))
            pair = [edge, value] if side == 0 else [value, edge]
            joined = tuple(n + count * (k == axis) for k, n in enumerate(value.shape))
            value = build.add(Step({"op": "concat", "axis": axis}, [v.index for v in pair]), joined)
    build.values[node] = value


def _upsample(build: Builder, node: fx.Node, module: Any) -> None:
    """Each pixel several times."""
    value = build.source(node)
    names = ("size", "scale_factor", "mode")
    if module is not None:
        size, factor, mode = (getattr(module, name) for name in names)
    else:
        size, factor, mode = (argument(build, node, i + 1, name, None) for i, name in enumerate(names))
    spatial = value.shape[1:]
    if size is not None:
        wanted = [size] * len(spatial) if isinstance(size, int) else list(size)
        factors = [n / m for n, m in zip(wanted, spatial, strict=True)]
    else:
        factors = [factor] * len(spatial) if isinstance(factor, (int, float)) else list(factor or ())
    if mode not in (None, "nearest") or not factors or any(f < 1 or f != int(f) for f in factors):
        raise UnsupportedError(f"{node.name!r}: upsampling of mode {mode!r}, or not a whole number of times")

    def repeat(seen: Tensor) -> Tensor:
        for axis, times in enumerate(factors, 2):
            seen = seen.repeat_interleave(int(times), axis)
        return seen

    build.values[node] = value.viewed(repeat)


METHODS = (
    *("view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "flatten", "unflatten", "chunk", "split"),
    *(
        "unbind",
        "select",
        "narrow",
        "movedim",
        "swapaxes",
        "expand",
        "repeat",
        "repeat_interleave",
        "tile",
        "flip",
        "t",
    ),
)
MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), _same),
    **dict.fromkeys((nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), _view),
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d), _pad),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d), _upsample),
}
FUNCTIONS: dict[Any, Handler] = {
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, "contiguous", "clone", "float", "detach"), _same),
    **dict.fromkeys(METHODS, _view),
    **{getattr(torch, name): _view for name in METHODS if hasattr(torch, name)},
    **dict.fromkeys((operator.getitem, F.pixel_shuffle, F.pixel_unshuffle), _view),
    **dict.fromkeys(("size", "dim", "numel"), _shape),
    getattr: _attribute,
    **dict.fromkeys((torch.cat, torch.concat, torch.stack), _concat),
    F.pad: _pad,
    F.interpolate: _upsample,
}
