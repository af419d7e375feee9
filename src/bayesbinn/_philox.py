"""Counter-based random words and what is made of them, in plain torch: the twin of csrc/training_body.h, bit for bit.

Word i of a stream is a function of (seed, stream, i) alone: Philox4x32-7 (Salmon et al., 2011), key = seed, counter =
(i // 4, stream).  So a seed gives the same weights whatever the device, the number of threads or the instruction set.
"""

import torch
from torch import Tensor

DRAW, ROUNDING = 0, 1  # streams
ROUNDS = 7  # the fewest that pass all tests of BigCrush
LOW = 0xFFFFFFFF
CHUNK = 1 << 16  # elements at a time on a CPU, where the intermediate results then stay in the cache


def words(seed: Tensor, stream: int, count: int, first: int = 0) -> Tensor:
    """Words `first` (a multiple of 4) ... `first + count - 1` of a stream: int64 (count,), each in [0, 2³²)."""
    counter = torch.arange(first // 4, (first + count + 3) // 4, device=seed.device)
    # upper halves hold what is left there, only a multiplication needs them cleared; its 64 bits count, not its sign
    x0, x1 = counter, counter >> 32
    x2, x3 = torch.full_like(counter, stream), torch.zeros_like(counter)
    key0, key1 = seed & LOW, (seed >> 32) & LOW
    for _ in range(ROUNDS):
        product0, product1 = (x0 & LOW).mul_(0xD2511F53), (x2 & LOW).mul_(0xCD9E8D57)
        x0, x1 = (product1 >> 32).bitwise_xor_(x1).bitwise_xor_(key0), product1
        x2, x3 = (product0 >> 32).bitwise_xor_(x3).bitwise_xor_(key1), product0
        key0, key1 = key0 + 0x9E3779B9, key1 + 0xBB67AE85
    return torch.stack((x0, x1, x2, x3), 1).bitwise_and_(LOW).flatten()[:count]


def threshold(natural: Tensor) -> Tensor:
    """2³¹ times the chance q = e / (1 + e), e = exp(−2|λ|), that w is not the sign of λ, rounded down (int32).

    A chance below 2⁻³¹ is none, as is any beyond |λ| = 16; NaN counts as that.

    Args:
        natural: λ, float32.

    >>> threshold(torch.tensor([0.0, 1.0, 16.0])).tolist()
    [1073741824, 255986320, 0]
    """
    z = natural.abs() * 2.88539008  # e = 2^-z
    z = torch.where(z < 46.0, z, 46.0)
    whole = z.round()
    f = whole - z
    f2 = f * f  # 2^f for |f| <= 1/2, by the polynomial of least relative error, 9e-8; exactly 1 at f = 0
    e = ((f * 0.0013264726 + 0.009671513) * f2 + (f * 0.055507336 + 0.24022242)) * f2 + (f * 0.693147 + 1.0)
    e = (e.view(torch.int32) - (whole.int() << 23)).view(torch.float32)
    return (e / (e + 1.0) * 2147483648.0).int()


def draw(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    """w = ±1 of the given dtype with P(w = +1) = σ(2λ); element i in row-major order is decided by word i."""
    weight = torch.empty(natural.shape, dtype=dtype, device=natural.device)
    flat, out = natural.reshape(-1), weight.view(-1)
    for first in range(0, len(flat), step := _step(flat)):
        part = flat[first : first + step].float()
        flip = (words(seed, DRAW, len(part), first) >> 1) < threshold(part)
        out[first : first + step] = torch.where(flip ^ part.signbit(), -1.0, 1.0)
    return weight


def round_(out: Tensor, x: Tensor, seed: Tensor) -> None:
    """out ← x in bfloat16, to either neighbour, with the chances that make the mean x; NaN and infinities stay.

    Args:
        out: bfloat16, of any strides.
        x: float32, of the same shape.
    """
    flat = x.reshape(-1)
    rounded = torch.empty_like(flat, dtype=torch.bfloat16)
    for first in range(0, len(flat), step := _step(flat)):
        part = flat[first : first + step]
        lower = (words(seed, ROUNDING, len(part), first) >> 16).int()
        bits = part.contiguous().view(torch.int32) + lower * part.isfinite()
        target = rounded[first : first + step]
        target.copy_((bits & -65536).view(torch.float32))  # exact
        target[part.isnan()] = torch.nan
    out.copy_(rounded.view(x.shape))


def _step(flat: Tensor) -> int:
    return CHUNK if flat.device.type == "cpu" else max(len(flat), 1)
