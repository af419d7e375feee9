"""Functions of one number, norms, softmax and products of two values."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..builder import Builder, Handler, argument
from ..steps import Step, UnsupportedError
from ..values import Value
from .arithmetic import broadcast_shape, with_constant
from .layers import linear


def _function(name: str, setting: str | None = None, default: float = 0.0) -> Handler:
    def handle(build: Builder, node: fx.Node, module: Any) -> None:
        entry: dict[str, Any] = {"op": "function", "function": name}
        if setting is not None:
            found = getattr(module, setting) if module is not None else argument(build, node, 1, setting, default)
            entry["parameter"] = float(found)
        build.values[node] = build.pointwise(build.source(node), entry)

    return handle


def _gelu(build: Builder, node: fx.Node, module: Any) -> None:
    form = module.approximate if module is not None else node.kwargs.get("approximate", "none")
    name = {"none": "gelu", "tanh": "gelu_tanh"}[str(form)]
    build.values[node] = build.pointwise(build.source(node), {"op": "function", "function": name})


def _scales(count: int, weight: Tensor | None, bias: Tensor | None) -> dict[str, Any]:
    scale = torch.ones(count) if weight is None else weight.detach().cpu()
    shift = (torch.zeros(count) if bias is None else bias.detach().cpu()).double().reshape(-1)
    return {"scale": scale.double().reshape(-1), "shift": shift, "size": shift.abs()}


def _arguments(build: Builder, node: fx.Node, *names: str) -> list[Any]:
    """The arguments of these names, which follow the first."""
    return [argument(build, node, i, name, None) for i, name in enumerate(names, 1)]


def _norm(
    build: Builder, value: Value, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float,
    center: bool,
) -> Value:  # fmt: skip
    """Layer or RMS norm over the last axes, which have this shape."""
    entry = {"op": "normalize", "name": build.node.name, "center": center, "whole": False, "eps": eps}
    if len(shape) == 1:
        rows, tensor = build.rows(value)
        step = Step(entry, [rows.index], **_scales(shape[0], weight, bias))
        return tensor(build.add(step, rows.stored).index, rows.stored)
    first = build.first(value)
    if first.shape != shape:
        raise UnsupportedError(f"{build.node.name!r}: a norm over {len(shape)} of {len(first.shape)} sizes")
    channels = first.shape[0]
    step = Step({**entry, "whole": True}, [first.index], **_scales(channels, None, None))
    found = build.add(step, first.stored)
    for name, tensor_ in (("mul", weight), ("add", bias)):
        found = found if tensor_ is None else with_constant(build, name, found, tensor_)
    return found


def _layer_norm(build: Builder, node: fx.Node, module: Any) -> None:
    if module is not None:
        shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
    else:
        shape, weight, bias, eps = _arguments(build, node, "normalized_shape", "weight", "bias", "eps")
    eps = 1e-5 if eps is None else eps
    build.values[node] = _norm(build, build.source(node), tuple(shape), weight, bias, eps, center=True)


def _rms_norm(build: Builder, node: fx.Node, module: Any) -> None:
    if module is not None:
        shape, weight, eps = module.normalized_shape, module.weight, module.eps
    else:
        shape, weight, eps = _arguments(build, node, "normalized_shape", "weight", "eps")
    eps = float(torch.finfo(torch.float32).eps) if eps is None else eps
    build.values[node] = _norm(build, build.source(node), tuple(shape), weight, None, eps, center=False)


def _group_norm(build: Builder, node: fx.Node, module: Any) -> None:
    value = build.first(build.source(node))
    if module is None:
        groups, weight, bias = _arguments(build, node, "num_groups", "weight", "bias")
        eps = argument(build, node, 4, "eps", 1e-5)
    elif isinstance(module, nn.GroupNorm):
        groups, weight, bias, eps = module.num_groups, module.weight, module.bias, module.eps
    else:
        if module.track_running_stats:
            raise UnsupportedError(f"{node.target!r}: instance norm with running statistics")
        groups, weight, bias, eps = value.shape[0], module.weight, module.bias, module.eps
    entry = {"op": "normalize", "name": build.node.name, "groups": groups, "center": True, "whole": True, "eps": eps}
    build.values[node] = build.add(Step(entry, [value.index], **_scales(value.shape[0], weight, bias)), value.stored)


def softmax(build: Builder, value: Value, dim: int) -> Value:
    """Softmax over an axis."""
    rows, tensor = build.rows(value.viewed(lambda r: r.movedim(dim, -1)))
    found = tensor(build.add(Step({"op": "softmax"}, [rows.index]), rows.stored).index, rows.stored)
    return found.viewed(lambda r: r.movedim(-1, dim))


def _softmax(build: Builder, node: fx.Node, module: Any) -> None:
    dim = module.dim if module is not None else argument(build, node, 1, "dim", None)
    if dim is None or dim % build.source(node).seen.ndim == 0:
        raise UnsupportedError(f"{node.name!r}: softmax without an axis, or over the batch")
    build.values[node] = softmax(build, build.source(node), int(dim))


def matmul(build: Builder, a: Value, b: Value) -> Value:
    """a (..., M, K) times b (..., K, N)."""
    if a.own is None or b.own is None or len(a.shape) < 2 or len(b.shape) < 2:
        raise UnsupportedError(f"{build.node.name!r}: a product of tensors that are not matrices for each input")
    if len(a.shape) != len(b.shape) or a.shape[:-2] != b.shape[:-2]:
        lead = broadcast_shape(a.seen.shape[:-2], b.seen.shape[:-2])
        a, b = (v.viewed(lambda r: r.expand(*lead, *r.shape[-2:])) for v in (a, b))
    rows, tensor = build.rows(a)
    turned = b.viewed(lambda r: r.transpose(-1, -2))
    transposed = _is_stored(turned) or not _is_stored(b)
    other, _ = build.rows(turned if transposed else b)
    shape = (b.shape[-1], *rows.stored[1:])
    step = Step({"op": "matmul", "transposed": transposed}, [rows.index, other.index])
    return tensor(build.add(step, shape).index, shape)


def _is_stored(value: Value) -> bool:
    own = value.own
    return own is not None and torch.equal(own.movedim(-1, 0).flatten(), torch.arange(value.size))


def _matmul(build: Builder, node: fx.Node, module: Any) -> None:
    a, b = build.resolve(node.args[:2])
    if isinstance(a, Value) and isinstance(b, Tensor) and b.ndim == 2:
        sizes = (int(b.shape[1]), int(b.shape[0]))
        build.values[node] = linear(build, a, node.name, sizes, b.T, None, None)
    else:
        build.values[node] = matmul(build, build.value(a), build.value(b))


MODULES: dict[type[nn.Module], Handler] = {
    nn.Sigmoid: _function("sigmoid"),
    nn.Tanh: _function("tanh"),
    nn.SiLU: _function("silu"),
    nn.GELU: _gelu,
    nn.Mish: _function("mish"),
    nn.ELU: _function("elu", "alpha"),
    nn.LeakyReLU: _function("leaky_relu", "negative_slope"),
    nn.Hardsigmoid: _function("hardsigmoid"),
    nn.Hardswish: _function("hardswish"),
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    **dict.fromkeys((nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d), _group_norm),
    nn.Softmax: _softmax,
}
FUNCTIONS: dict[Any, Handler] = {
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid", torch.sigmoid_, "sigmoid_"), _function("sigmoid")),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh", torch.tanh_, "tanh_"), _function("tanh")),
    F.silu: _function("silu"),
    F.gelu: _gelu,
    F.mish: _function("mish"),
    F.elu: _function("elu", "alpha", 1.0),
    F.leaky_relu: _function("leaky_relu", "negative_slope", 0.01),
    F.hardsigmoid: _function("hardsigmoid"),
    F.hardswish: _function("hardswish"),
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), _softmax),
    **dict.fromkeys((torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm"), _matmul),
}
