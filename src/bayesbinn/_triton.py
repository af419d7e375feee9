"""The draw and the rule on a CUDA device as one Triton kernel each: the arithmetic of `_philox` and `_ops`.

Imported only where Triton is installed (torch's CUDA builds bring it).
"""

import torch
import triton  # type: ignore[import-not-found, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor

BLOCK = 256  # counters, that is quadruples of weights, in a program


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _weight(natural, word):  # type: ignore[no-untyped-def]
    z = tl.abs(natural) * 2.88539008
    z = tl.where(z < 46.0, z, 46.0)
    shifted = z + 12582912.0  # 1.5 * 2^23 leaves no room for fractions: its lowest bits are round(z)
    f = (shifted - 12582912.0) - z
    f2 = f * f
    e = ((f * 0.0013264726 + 0.009671513) * f2 + (f * 0.055507336 + 0.24022242)) * f2 + (f * 0.693147 + 1.0)
    e = (e.to(tl.int32, bitcast=True) - (shifted.to(tl.int32, bitcast=True) << 23)).to(tl.float32, bitcast=True)
    threshold = (tl.div_rn(e, e + 1.0) * 2147483648.0).to(tl.int32)
    flip = (word >> 1).to(tl.int32) < threshold
    negative = natural.to(tl.int32, bitcast=True) < 0
    return tl.where(flip != negative, -1.0, 1.0)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _draw(natural, seed, weight, count, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    counter = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    low, high = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    x0, x1, x2, x3 = tl.philox(tl.load(seed), low, high, low * 0, low * 0, 7)
    index = counter * 4
    tl.store(weight + index, _weight(tl.load(natural + index, index < count), x0), index < count)
    tl.store(weight + index + 1, _weight(tl.load(natural + index + 1, index + 1 < count), x1), index + 1 < count)
    tl.store(weight + index + 2, _weight(tl.load(natural + index + 2, index + 2 < count), x2), index + 2 < count)
    tl.store(weight + index + 3, _weight(tl.load(natural + index + 3, index + 3 < count), x3), index + 3 < count)


def draw(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    """As `_philox.draw`."""
    source = natural.float().contiguous()
    weight = torch.empty(natural.shape, dtype=dtype, device=natural.device)
    if source.numel():
        grid = (triton.cdiv(source.numel(), 4 * BLOCK),)
        # a fused multiply-add would round once where the other paths round twice
        _draw[grid](source, seed, weight, source.numel(), BLOCK=BLOCK, enable_fp_fusion=False)
    return weight


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _learn(  # type: ignore[no-untyped-def]
    natural, grad, momentum, second, prior, rate, squares, count,
    value, lr, ratio, beta, keep, start, beta2, keep2, scale2, eps,
    MOMENTUM: tl.constexpr, SECOND: tl.constexpr, PRIOR: tl.constexpr, RATE: tl.constexpr, SQUARE: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    x = tl.load(natural + index, inside, 0.0)
    origin = tl.load(prior + index, inside, 0.0) if PRIOR else value
    g = tl.where(inside, (x - origin) + tl.load(grad + index, inside, 0.0) * ratio, 0.0)
    step = -tl.load(rate).to(tl.float32) * start if RATE else -lr * start
    along = g
    if MOMENTUM:
        along = tl.load(momentum + index, inside, 0.0) * beta + g * keep
        tl.store(momentum + index, along, inside)
    if SECOND:
        v = tl.load(second + index, inside, 1.0) * beta2 + (g * g) * keep2
        tl.store(second + index, v, inside)
        size = tl.div_rn(lr, tl.sqrt_rn(v * scale2) + eps)
        along = along * tl.where(size < 1.0, size, 1.0)
        step = -start
    if SQUARE:
        tl.store(squares + tl.program_id(0), tl.sum(g * g, 0))
    tl.store(natural + index, x + along * step, inside)


def learn_(
    natural: Tensor, grad: Tensor, momentum: Tensor | None, second: Tensor | None, prior: Tensor | None,
    value: float, lr: float, rate: Tensor | None,
    ratio: float, beta: float, correction: float, beta2: float, correction2: float, eps: float, square: Tensor | None,
) -> None:  # fmt: skip
    """As `_ops.learn_`, for contiguous float32 tensors; `rate` is 0-d.  Sums of squares come in another order."""
    block, count = 1024, natural.numel()
    grid = (triton.cdiv(count, block),)
    squares = None if square is None else torch.empty(grid, dtype=torch.float32, device=natural.device)
    given = {"MOMENTUM": momentum, "SECOND": second, "PRIOR": prior, "RATE": rate, "SQUARE": squares}
    tensors = (natural, grad, *(natural if t is None else t for t in (momentum, second, prior, rate, squares)))
    numbers = (value, lr, ratio, beta, 1 - beta, 1 / correction, beta2, 1 - beta2, 1 / correction2, eps)
    flags = {name: t is not None for name, t in given.items()}
    if count:
        _learn[grid](*tensors, count, *numbers, **flags, BLOCK=block, enable_fp_fusion=False)
    if square is not None and squares is not None:
        square.copy_(squares.sum(dtype=torch.float64) / max(count, 1))
