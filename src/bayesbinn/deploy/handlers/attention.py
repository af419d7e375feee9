"""Attention, and torch's transformer modules written out in operations that have handlers of their own."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ...nn import BinaryMultiheadAttention
from ..builder import Builder, Handler, argument
from ..steps import UnsupportedError
from ..values import Value
from .arithmetic import with_constant
from .floats import matmul, softmax
from .layers import linear


def attend(
    build: Builder, q: Value, k: Value, v: Value, mask: Tensor | None, causal: bool, scale: float | None
) -> Value:
    """softmax(q kᵀ / √d + mask) v."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = matmul(build, with_constant(build, "mul", q, scale), k.viewed(lambda r: r.transpose(-1, -2)))
    if causal:
        m, n = scores.shape[-2:]
        mask = torch.ones(m, n, dtype=torch.bool).tril()
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape).masked_fill(~mask, -1e30)
        scores = with_constant(build, "add", scores, mask.float().clamp(min=-1e30))
    return matmul(build, softmax(build, scores, -1), v)


def _attention(build: Builder, node: fx.Node, module: Any) -> None:
    q, k, v = (build.value(argument(build, node, i, name, None)) for i, name in enumerate(("query", "key", "value")))
    mask, causal = argument(build, node, 3, "attn_mask", None), argument(build, node, 5, "is_causal", False)
    scale, grouped = argument(build, node, 6, "scale", None), argument(build, node, 7, "enable_gqa", False)
    if isinstance(mask, Value):
        raise UnsupportedError(f"{node.name!r}: a mask that depends on the input")
    if grouped:
        times = q.shape[-3] // k.shape[-3]
        k, v = (x.viewed(lambda r: r.repeat_interleave(times, -3)) for x in (k, v))
    build.values[node] = attend(build, q, k, v, mask, bool(causal), scale)


def project(x: Any, name: str, bias: Tensor | None) -> Any:
    """x times the scaled binary weight of layer `name`, plus a bias; while a network is traced."""
    raise AssertionError("it stands for an operation in a graph")


project.of_layer = True  # type: ignore[attr-defined]  # its weight is another in each network, even if x is a constant


def _project(build: Builder, node: fx.Node, module: Any) -> None:
    name, bias = build.resolve(node.args[1:])
    layer: Any = build.modules[name]
    outputs, inputs = layer.weight.shape
    build.values[node] = linear(build, build.source(node), name, (outputs, inputs), None, layer.scales, bias)


def _multihead(tracer: Any, m: Any, query: Any, key: Any, value: Any, **settings: Any) -> Any:
    """`nn.MultiheadAttention` and its twin."""
    given = {name: setting for name, setting in settings.items() if setting is not None}
    mask, causal = given.pop("attn_mask", None), given.pop("is_causal", False)
    weights, average = given.pop("need_weights", True), given.pop("average_attn_weights", True)
    if given or m.bias_k is not None or m.add_zero_attn:
        raise UnsupportedError(f"attention with {', '.join(given) or 'bias_k or add_zero_attn'}")
    path, binary = tracer.path_of_module(m), isinstance(m, BinaryMultiheadAttention)
    joint = m.in_proj_bias
    biases = (None, None, None) if joint is None else joint.chunk(3)
    names = [f"{part}_proj_weight" for part in "qkv"]

    def layer(x: Any, name: str, bias: Any) -> Any:
        if binary:
            return tracer.create_proxy("call_function", project, (x, f"{path}.{name}", bias), {})
        if name == "out_proj":
            return F.linear(x, m.out_proj.weight, bias)
        whole = m.in_proj_weight
        weight = getattr(m, name) if whole is None else whole.chunk(3)[names.index(name)]
        return F.linear(x, weight, bias)

    if not m.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    heads = m.num_heads
    q, k, v = (
        layer(x, name, biases[i]).unflatten(-1, (heads, -1)).transpose(1, 2)
        for i, (x, name) in enumerate(zip((query, key, value), names, strict=True))
    )
    if mask is not None and mask.dtype == torch.bool:
        mask = ~mask  # here True is what may not be seen
    if not weights:
        mixed = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal and mask is None)
    scores = None
    if weights:
        scores = q @ k.transpose(-1, -2) * (1 / math.sqrt(m.head_dim))
        if mask is not None:
            scores = scores + (torch.zeros(mask.shape).masked_fill(~mask, -1e30) if mask.dtype == torch.bool else mask)
        scores = scores.softmax(-1)
        mixed = scores @ v
        if average:
            scores = scores.mean(1)
    out = layer(mixed.transpose(1, 2).flatten(-2), "out_proj", m.out_proj.bias)
    return (out if m.batch_first else out.transpose(0, 1)), scores


def _encoder_layer(tracer: Any, m: Any, src: Any, src_mask: Any = None, **settings: Any) -> Any:
    """`nn.TransformerEncoderLayer`."""
    if settings.get("src_key_padding_mask") is not None:
        raise UnsupportedError("attention with src_key_padding_mask")
    causal = bool(settings.get("is_causal", False))

    def attention(x: Any) -> Any:
        return m.self_attn(x, x, x, attn_mask=src_mask, is_causal=causal, need_weights=False)[0]

    def feed(x: Any) -> Any:
        return m.linear2(m.activation(m.linear1(x)))

    if m.norm_first:
        x = src + attention(m.norm1(src))
        return x + feed(m.norm2(x))
    x = m.norm1(src + attention(src))
    return m.norm2(x + feed(x))


def _encoder(tracer: Any, m: Any, src: Any, mask: Any = None, **settings: Any) -> Any:
    """`nn.TransformerEncoder`."""
    if settings.get("src_key_padding_mask") is not None:
        raise UnsupportedError("attention with src_key_padding_mask")
    for layer in m.layers:
        src = layer(src, mask) if mask is not None else layer(src)
    return src if m.norm is None else m.norm(src)


# modules that are traced through a simpler forward: f(tracer, module, *args, **kwargs)
EXPANDED: dict[type[nn.Module], Callable[..., Any]] = {
    **dict.fromkeys((nn.MultiheadAttention, BinaryMultiheadAttention), _multihead),
    nn.TransformerEncoderLayer: _encoder_layer,
    nn.TransformerEncoder: _encoder,
}
MODULES: dict[type[nn.Module], Handler] = {}
FUNCTIONS: dict[Any, Handler] = {F.scaled_dot_product_attention: _attention, project: _project}
