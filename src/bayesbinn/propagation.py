"""Mean and variance of what a network computes under its posterior, in one pass and without a draw.

Inside `moment_weights(net)` the ±1 weights of each binary layer are their moments: mean μ = tanh λ and variance 1 − μ².
The network's own code runs on them.  Every function that it calls has a rule here for the mean and variance of its
result, which takes the elements of a tensor for independent and normally distributed.  One without a rule is refused.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import bernoulli
from .nn.draws import fixed_weights, some_binary_layers

NODES = 8  # of Gauss–Hermite quadrature, for functions of one number
SAMPLES = 32  # quasi-random points that stand for a normal output


class Moments(Tensor):
    """The mean of each element, with its `variance` of the same shape.

    >>> x = Moments.of(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 4.0]))
    >>> (3 * x + 1).variance
    tensor([ 9., 36.])
    """

    variance: Tensor

    @staticmethod
    def of(mean: Tensor, variance: Tensor) -> "Moments":
        """`mean` and `variance` as one."""
        moments: Moments = mean.as_subclass(Moments)
        moments.variance = variance
        return moments

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func in RULES:
                return RULES[func](*args, **(kwargs or {}))
            if getattr(func, "__name__", "") == "__get__" or func in QUESTIONS:
                found = func(*args, **(kwargs or {}))
                if not isinstance(found, Tensor):
                    return found
        name = getattr(func, "__name__", str(func))
        raise ValueError(f"moments have no rule for {name}, which the network uses: predict with a number of samples")


@contextmanager
def moment_weights(net: nn.Module) -> Iterator[nn.Module]:
    """Inside, each binary layer in evaluation mode computes with the moments of its weights.

    Raises:
        ValueError: if `net` has no binary layer.
    """
    weights: dict[str, Tensor] = {}
    for name, layer in some_binary_layers(net):
        mean = bernoulli.mean(layer.natural.detach()) if layer.binarizer.has_posterior else layer.weight
        weights[name] = Moments.of(mean, 1 - mean.square())
    with fixed_weights(net, weights):
        yield net


def points(output: Tensor) -> Iterator[Tensor]:
    """`SAMPLES` outputs (B, ...) that have the mean and variance of `output`; itself once, if it has none.

    Quasi-random, so that few of them are enough, and the same in every call.
    """
    if not isinstance(output, Moments):
        yield output
        return
    mean, deviation = _parts(output)[0], output.variance.sqrt()
    sobol = torch.quasirandom.SobolEngine(mean[0].numel(), scramble=True, seed=0)  # type: ignore[no-untyped-call]
    noise = torch.special.ndtri(sobol.draw(SAMPLES).double().clamp(1e-6, 1 - 1e-6)).to(mean)
    for own in (noise - noise.mean(0)) / noise.std(0, correction=0):
        yield mean + deviation * own.reshape(mean.shape[1:])


# --- the rules ---


def _parts(x: Any) -> tuple[Any, Any]:
    """Mean and variance; what has no moments is certain."""
    return (x.as_subclass(Tensor), x.variance) if isinstance(x, Moments) else (x, 0.0)


def _sum_of_products(
    op: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Any = None, *args: Any, **kwargs: Any
) -> Moments:
    """Σ w x of `op`, a linear map or convolution: Var = Σ E w² E x² − Σ (E w)² (E x)², where E w² of ±1 is 1."""
    mean, variance = _parts(x)
    w, w_variance = _parts(weight)
    bias_mean, bias_variance = _parts(bias)
    total = op(mean, w, bias_mean, *args, **kwargs)
    if isinstance(w_variance, Tensor):
        groups = args[3] if len(args) > 3 else kwargs.get("groups", 1)
        squares = op(mean.square() + variance, torch.ones_like(w[:groups]), None, *args, **kwargs)
        if groups > 1:
            squares = squares.repeat_interleave(len(w) // groups, 1)
        spread = squares - op(mean.square(), w.square(), None, *args, **kwargs)
    else:
        spread = op(variance, w.square(), None, *args, **kwargs)
    if isinstance(bias_variance, Tensor):
        spread = spread + bias_variance.reshape(-1, *[1] * (spread.ndim - 2))
    return Moments.of(total, spread.clamp(min=0))


def _add(sign: float, a: Any, b: Any, *, alpha: float = 1, out: None = None) -> Moments:
    (mean_a, var_a), (mean_b, var_b) = _parts(a), _parts(b)
    mean = mean_a + sign * alpha * mean_b
    return Moments.of(mean, torch.as_tensor(var_a + alpha**2 * var_b).expand_as(mean))


def _mul(a: Any, b: Any) -> Moments:
    (mean_a, var_a), (mean_b, var_b) = _parts(a), _parts(b)
    mean = mean_a * mean_b
    return Moments.of(mean, (var_a * (mean_b * mean_b) + var_b * (mean_a * mean_a) + var_a * var_b).expand_as(mean))


def _div(a: Any, b: Any) -> Moments:
    if isinstance(b, Moments):
        raise ValueError("moments have no rule for a division by what is not certain: predict with a number of samples")
    return _mul(a, 1 / b)


def _addcmul(a: Any, b: Any, c: Any, *, value: float = 1) -> Moments:
    return _add(1, a, _mul(b, c), alpha=value)


def _batch_norm(
    x: Tensor,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Moments:
    if training:
        raise ValueError("moments need the statistics of batch norm, not those of a batch: call net.eval()")
    own, variance = _parts(x)
    factor = (var + eps).rsqrt() * (1 if weight is None else weight)
    shaped = F.batch_norm(own, mean, var, weight, bias, False, momentum, eps)
    return Moments.of(shaped, variance * factor.square().reshape(-1, *[1] * (own.ndim - 2)))


def _relu(x: Moments, inplace: bool = False) -> Moments:
    """E max(x, 0) = m Φ(a) + s φ(a) and E max(x, 0)² = m E max(x, 0) + s² Φ(a), a = m / s."""
    mean, variance = _parts(x)
    deviation = variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt_()
    a = mean / deviation
    below = torch.erf(a * math.sqrt(0.5)).add_(1).mul_(0.5)
    first = a.square_().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi)).mul_(deviation).addcmul_(mean, below)
    first.clamp_(min=0)
    return Moments.of(first, torch.addcmul(variance * below, mean - first, first).clamp_(min=0))


def _of_one_number(func: Callable[..., Tensor], x: Moments, *args: Any, **kwargs: Any) -> Moments:
    """E f(x) and E f(x)² by Gauss–Hermite quadrature."""
    mean, variance = _parts(x)
    deviation = variance.sqrt()
    first, second = torch.zeros_like(mean), torch.zeros_like(mean)
    for node, weight in zip(*np.polynomial.hermite_e.hermegauss(NODES), strict=True):
        value = func(mean + float(node) * deviation, *args, **kwargs)
        first = first + float(weight) / math.sqrt(2 * math.pi) * value
        second = second + float(weight) / math.sqrt(2 * math.pi) * value.square()
    return Moments.of(first, (second - first.square()).clamp(min=0))


def _larger(a: Moments, b: Moments) -> Moments:
    """The larger of two, as a normal distribution (Clark, 1961)."""
    (m, v), (n, w) = _parts(a), _parts(b)
    spread = (v + w).clamp(min=torch.finfo(m.dtype).tiny).sqrt()
    alpha = (m - n) / spread
    p, q = torch.special.ndtr(alpha), torch.special.ndtr(-alpha)
    density = torch.exp(-0.5 * alpha.square()) / math.sqrt(2 * math.pi)
    first = m * p + n * q + spread * density
    second = (m.square() + v) * p + (n.square() + w) * q + (m + n) * spread * density
    return Moments.of(first, (second - first.square()).clamp(min=0))


def _max_pool(
    dims: int,
    x: Moments,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Moments:
    def spread(value: Any) -> list[int]:
        return [value] * dims if isinstance(value, int) else list(value)

    if ceil_mode or return_indices:
        raise ValueError("moments have no rule for a max pool with ceil_mode or indices: predict with samples")
    kernel, pads, gaps = spread(kernel_size), spread(padding), spread(dilation)
    steps = spread(stride) if stride else kernel
    mean, variance = _parts(x)
    edges = [n for p in reversed(pads) for n in (p, p)]
    mean = F.pad(mean, edges, value=mean.amin().item() if any(edges) else 0.0)  # the lowest: it is never the largest
    variance = F.pad(variance, edges)
    sizes = [(n - g * (k - 1) - 1) // s + 1 for n, k, s, g in zip(mean.shape[-dims:], kernel, steps, gaps, strict=True)]
    found: Moments | None = None
    for at in product(*map(range, kernel)):
        windows = zip(at, gaps, steps, sizes, strict=True)
        cut: Any = (..., *(slice(i * g, i * g + s * (n - 1) + 1, s) for i, g, s, n in windows))
        one = Moments.of(mean[cut], variance[cut])
        found = one if found is None else _larger(found, one)
    assert found is not None
    return found


def _average(op: Callable[..., Tensor], x: Moments, *args: Any, **kwargs: Any) -> Moments:
    """The mean over elements.  Those of a window share their weights, so they vary together: sd = mean of the sds."""
    mean, variance = _parts(x)
    return Moments.of(op(mean, *args, **kwargs), op(variance.sqrt(), *args, **kwargs).square())


def _same(op: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """What only moves elements does the same to both."""
    if isinstance(x, (list, tuple)):
        parts = [_parts(one) for one in x]
        variances = [v if isinstance(v, Tensor) else torch.zeros_like(m) for m, v in parts]
        return Moments.of(op([m for m, _ in parts], *args, **kwargs), op(variances, *args, **kwargs))
    mean, variance = (op(part, *args, **kwargs) for part in _parts(x))
    if isinstance(mean, tuple):
        return tuple(map(Moments.of, mean, variance))
    return Moments.of(mean, variance)


def _certain(x: Moments, *args: Any, **kwargs: Any) -> Moments:
    """Dropout in evaluation mode."""
    if args[1] if len(args) > 1 else kwargs.get("training", False):
        raise ValueError("moments are of the network in evaluation mode: call net.eval()")
    return x


# what is asked of a tensor and has no moments
QUESTIONS = (
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.__repr__, Tensor.stride),
    *(Tensor.is_floating_point, Tensor.is_contiguous),
)
_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
RULES: dict[Any, Callable[..., Any]] = {
    **{op: partial(_sum_of_products, op) for op in (F.linear, torch.conv1d, torch.conv2d, torch.conv3d)},
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__), partial(_add, 1)),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__isub__), partial(_add, -1)),
    Tensor.__rsub__: lambda a, b: _add(-1, b, a),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__), _mul),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__, Tensor.__itruediv__), _div),
    torch.addcmul: _addcmul,
    F.batch_norm: _batch_norm,
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu, F.relu_, torch.relu_, Tensor.relu_), _relu),
    **{op: partial(_of_one_number, op) for op in (
        *(F.silu, F.gelu, F.elu, F.softplus, F.leaky_relu, F.hardtanh, F.relu6, F.hardswish, F.hardsigmoid, F.mish),
        *(torch.sigmoid, Tensor.sigmoid, torch.tanh, Tensor.tanh, torch.clamp, Tensor.clamp),
    )},
    **{op: partial(_max_pool, dims) for dims, op in enumerate(_POOLS, 1)},
    **{op: partial(_average, op) for op in (
        *(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, torch.mean, Tensor.mean),
        *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    )},
    **{op: partial(_same, op) for op in (
        *(torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, Tensor.unflatten, torch.cat),
        *(torch.permute, Tensor.permute, torch.transpose, Tensor.transpose, torch.squeeze, Tensor.squeeze),
        *(torch.unsqueeze, Tensor.unsqueeze, Tensor.contiguous, Tensor.to, Tensor.float, Tensor.__getitem__),
        *(torch.chunk, Tensor.chunk, torch.split, Tensor.split, torch.stack, F.pad, Tensor.detach, Tensor.clone),
    )},
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout), _certain),
}  # fmt: skip
