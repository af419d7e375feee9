"""Sums, differences, products and quotients; limits."""

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ... import bernoulli
from ..builder import Builder, Handler, argument
from ..steps import Step, UnsupportedError
from ..values import BATCH, Sizes, Value, as_rows, from_rows


def _arithmetic(name: str) -> Handler:
    """a ± b, a · b or a / b: of two values (not a / b), or of a value and a constant."""

    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        left, right = build.resolve(node.args) if len(node.args) == 2 and not node.kwargs else (None, None)
        norm = _rms(build, node, left, right) if name == "mul" else None
        if norm is not None:
            build.values[node] = norm
        elif isinstance(left, Value) and isinstance(right, Value):
            build.values[node] = combine(build, name, left, right)
        elif isinstance(left, Value) and isinstance(right, (int, float, Tensor)):
            build.values[node] = with_constant(build, name, left, right)
        elif isinstance(right, Value) and isinstance(left, (int, float, Tensor)) and name != "div":
            value = with_constant(build, "mul", right, -1.0) if name == "sub" else right
            build.values[node] = with_constant(build, "add" if name == "sub" else name, value, left)
        else:
            raise UnsupportedError(f"{node.name!r}: {name} of anything but values, numbers and tensors")

    return handle


def combine(build: Builder, name: str, a: Value, b: Value) -> Value:
    """a + b, a − b or a · b of two values, one of which may have sizes of 1 where the other has more."""
    if name == "div":
        raise UnsupportedError(f"{build.node.name!r}: a quotient of two values")
    if name == "sub":
        b, name = with_constant(build, "mul", b, -1.0), "add"
    if b.seen.numel() > a.seen.numel():
        a, b = b, a
    entry = {"op": "add" if name == "add" else "multiply"}
    same = a.seen.shape == b.seen.shape and a.stored == b.stored and a.whole()
    if same and torch.equal(a.seen, b.seen):
        return replace(a, index=build.add(Step(entry, [a.index, b.index]), a.stored).index)
    spread = b.viewed(lambda r: r.reshape(*r.shape[:1], *[1] * (a.seen.ndim - r.ndim), *r.shape[1:]))
    shape = broadcast_shape(a.seen.shape, spread.seen.shape)
    if shape != a.seen.shape:
        a, spread = (v.viewed(lambda r: r.expand(shape)) for v in (a, spread))
    if a.own is None or spread.own is None:
        raise UnsupportedError(f"{build.node.name!r}: {name} of two values whose batch is not the first size")
    if in_rows(a) or len(shape) > 4:
        if len(shape) > 4:
            spread = spread.viewed(lambda r: r.expand(shape))
        rows, tensor = build.rows(a)
        return tensor(build.add(Step(entry, [rows.index, build.rows(spread)[0].index]), rows.stored).index, rows.stored)
    first = build.first(a)
    return build.add(Step(entry, [first.index, build.first(spread).index]), first.stored)


def broadcast_shape(*shapes: Sizes) -> torch.Size:
    found: torch.Size = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    return found


def in_rows(value: Value) -> bool:
    """Whether it is stored with its last axis as channels, and not as it is seen."""
    if value.view is None or value.own is None or value.view.ndim < 3:
        return False
    own = value.own.movedim(-1, 0).flatten()
    return own.numel() == value.size and torch.equal(own, torch.arange(value.size))


def with_constant(build: Builder, name: str, value: Value, constant: float | Tensor) -> Value:
    """value + c, value − c, value · c or value / c, with c spread over the value as torch does."""
    found = torch.as_tensor(constant).detach().cpu().double()
    if name in ("sub", "div"):
        found, name = (-found, "add") if name == "sub" else (1 / found, "mul")
    if bool(found.isnan().any()) or (name == "mul" and not bool(torch.isfinite(found).all())):
        raise UnsupportedError(f"{build.node.name!r}: a constant that is not finite")
    one, nought = torch.ones(()).double(), torch.zeros(()).double()

    def along_channels(index: int, each: Tensor) -> int:
        return build.affine(index, each if name == "mul" else one, [nought if name == "mul" else each])

    if found.numel() == 1:
        if not value.whole():
            value = build.first(value) if len(value.shape) <= 3 else value
        if value.whole():
            return replace(value, index=along_channels(value.index, found.reshape(())))
    shape = value.shape
    if found.ndim > len(shape) and len(found) in (1, BATCH) and bool((found == found[:1]).all()):
        found = found[0]
    try:
        if broadcast_shape(found.shape, shape) != torch.Size(shape) or value.own is None:
            raise RuntimeError
    except RuntimeError:
        raise UnsupportedError(
            f"{build.node.name!r}: a constant of shape {tuple(found.shape)} and a value of shape {shape}"
        ) from None
    found = found.reshape(*[1] * (len(shape) - found.ndim), *found.shape)
    if found.shape[0] == found.numel() and not in_rows(value):
        first = build.first(value)
        return replace(first, index=along_channels(first.index, found.reshape(-1)))
    if found.shape[-1] == found.numel():
        rows, tensor = build.rows(value)
        return tensor(along_channels(rows.index, found.reshape(-1)), rows.stored)
    return combine(build, name, value, _constant(build, found, shape, in_rows(value)))


def _constant(build: Builder, found: Tensor, shape: Sizes, rows: bool) -> Value:
    """A constant of one number for each of the tensor's, or with sizes of 1, stored as it will be read."""
    if len(shape) > 3:
        found = found.expand(shape)
        rows = True
    if not rows:
        return build.constant(found)
    made = build.constant(as_rows(found))
    return Value(made.index, made.stored, from_rows(made.stored, tuple(found.shape)))


def _clamp(low: float | None, high: float | None) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        build.values[node] = build.clamp(build.source(node), low, high)

    return handle


def _hardtanh(build: Builder, node: fx.Node, module: Any) -> None:
    if module is not None:
        low, high = module.min_val, module.max_val
    else:
        low, high = argument(build, node, 1, "min_val", -1.0), argument(build, node, 2, "max_val", 1.0)
    build.values[node] = build.clamp(build.source(node), float(low), float(high))


def _clamp_function(build: Builder, node: fx.Node, module: Any) -> None:
    low, high = argument(build, node, 1, "min", None), argument(build, node, 2, "max", None)
    if not all(n is None or isinstance(n, (int, float)) for n in (low, high)):
        raise UnsupportedError(f"{node.name!r}: clamp to something that is not a number")
    limits = [None if n is None else float(n) for n in (low, high)]
    build.values[node] = build.clamp(build.source(node), *limits)


def _prelu(build: Builder, node: fx.Node, module: Any) -> None:
    """max(x, 0) + slope · min(x, 0), with a slope for all or for each channel."""
    value = build.source(node)
    slope = module.weight if module is not None else argument(build, node, 1, "weight", None)
    above = build.pointwise(value, {"op": "clamp", "clamp": [0.0, None]})
    below = build.pointwise(value, {"op": "clamp", "clamp": [None, 0.0]})
    shape = (-1, *[1] * (len(value.shape) - 1)) if slope.numel() > 1 else ()
    build.values[node] = combine(build, "add", above, with_constant(build, "mul", below, slope.detach().reshape(shape)))


def _power(build: Builder, node: fx.Node, module: Any) -> None:
    """x²."""
    if node.target not in (torch.square, "square") and argument(build, node, 1, "exponent", None) != 2:
        raise UnsupportedError(f"{node.name!r}: a power other than 2")
    value = build.source(node)
    build.values[node] = combine(build, "mul", value, value)


@dataclass(frozen=True)
class InverseRoot:
    """1 / √(mean of x² over the last axis + ε), while it waits for the x that it is multiplied by."""

    x: fx.Node
    eps: float


def _inverse_root(build: Builder, node: fx.Node, module: Any) -> None:
    """rsqrt(x.pow(2).mean(-1, keepdim=True) + eps), as an RMS norm written by hand has it."""
    added = node.args[0]
    parts = list(added.args) if isinstance(added, fx.Node) and added.target in ADDS else []
    mean = next((p for p in parts if isinstance(p, fx.Node) and p.target in (torch.mean, "mean")), None)
    eps = next((p for p in parts if isinstance(p, float)), None)
    square = mean.args[0] if mean is not None else None
    whole = mean is not None and argument(build, mean, 1, "dim", None) in (-1, [-1], (-1,))
    if not whole or eps is None or not isinstance(square, fx.Node) or FUNCTIONS.get(square.target) is not _power:
        raise UnsupportedError(f"{node.name!r}: rsqrt of anything but the mean square of an RMS norm, plus a number")
    build.constants[node] = InverseRoot(square.args[0], eps)  # type: ignore[arg-type]


def _rms(build: Builder, node: fx.Node, left: Any, right: Any) -> Value | None:
    """x · its `InverseRoot`: a norm."""
    root = right if isinstance(right, InverseRoot) else left
    other = left if root is right else right
    if not isinstance(root, InverseRoot) or not isinstance(other, Value):
        return None
    value = build.values[root.x]
    if value.index != other.index or not torch.equal(value.seen, other.seen):
        raise UnsupportedError(f"{node.name!r}: a product of an inverse root with another tensor")
    rows, tensor = build.rows(value)
    count = rows.stored[0]
    entry = {"op": "normalize", "name": node.name, "center": False, "whole": False, "eps": root.eps}
    one, nought = torch.ones(count).double(), torch.zeros(count).double()
    step = Step(entry, [rows.index], scale=one, shift=nought, size=nought)
    return tensor(build.add(step, rows.stored).index, rows.stored)


def _negative(build: Builder, node: fx.Node, module: Any) -> None:
    build.values[node] = with_constant(build, "mul", build.source(node), -1.0)


def _sign(build: Builder, node: fx.Node, module: Any) -> None:
    build.values[node] = build.pointwise(build.source(node), {"op": "sign"})


MODULES: dict[type[nn.Module], Handler] = {
    nn.ReLU: _clamp(0.0, None),
    nn.ReLU6: _clamp(0.0, 6.0),
    nn.Hardtanh: _hardtanh,
    nn.PReLU: _prelu,
}
ADDS = (operator.add, torch.add, "add")
FUNCTIONS: dict[Any, Handler] = {
    F.prelu: _prelu,
    **dict.fromkeys((operator.pow, torch.pow, "pow", torch.square, "square"), _power),
    **dict.fromkeys((torch.rsqrt, "rsqrt"), _inverse_root),
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), _clamp(0.0, None)),
    F.relu6: _clamp(0.0, 6.0),
    F.hardtanh: _hardtanh,
    **dict.fromkeys((torch.clamp, torch.clamp_, "clamp", "clamp_"), _clamp_function),
    **dict.fromkeys((bernoulli.sign,), _sign),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _arithmetic("add")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _arithmetic("sub")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _arithmetic("mul")),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _arithmetic("div")),
}
