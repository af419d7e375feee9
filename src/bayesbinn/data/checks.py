"""Inputs as people have them, checked and made into tensors: their layout, their precision, what they are known by."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .source import Array

FIRST, LAST = "channels-first", "channels-last"
CHANNELS = 4  # the most that an image has
LEAST = 1e-30  # a smaller spread is lost when float32 divides by it
VARIES = 1e-13  # of the largest value, a few hundred roundings of float64: less is no variation
BEYOND = 0.01  # share of values far outside of training's that is no outlier any more
Limits = tuple[tuple[float, float], ...]
FLOAT32 = 2.0**14  # values of more standard deviations than this leave float32 less than 1/1000 of one


def checked_inputs(what: str, x: Array, layout: str = "") -> Tensor:
    """The inputs x as (N, C, H, W) or (N, F), uint8 or float32, or float64 where float32 might lose something.

    Four axes are channels first if only the first of (C, H, W) is 4 or less or the last is more than 4, and channels
    last if the last is 4 or less and the others more; `layout` says it where the shape leaves it open.

    Raises:
        UserError: for another type or shape, nothing, NaN or infinity, or a shape that leaves the layout open.

    >>> checked_inputs("x", np.zeros((5, 32, 32, 3), np.uint8)).shape
    torch.Size([5, 3, 32, 32])
    """
    if x.dtype.kind not in "iubf" or x.ndim not in (2, 3, 4):
        raise UserError(
            f"{what} has type {x.dtype} and shape {x.shape}: expected numbers of shape (N, H, W[, C]) or (N, F)"
        )
    if x.size == 0:
        raise UserError(f"{what} is empty, of shape {x.shape}: give at least one input")
    if layout not in ("", FIRST, LAST):
        raise UserError(f"{what}: unknown layout {layout!r}: it is {FIRST} or {LAST}")
    if x.dtype != np.uint8:
        exact = x.dtype.itemsize <= 2 or x.dtype == np.float32
        x = x.astype(np.float32 if exact else np.float64)
        if not np.isfinite(x).all() or np.abs(x).max() > np.finfo(np.float32).max:
            raise UserError(f"{what} holds NaN, infinity or numbers too large for float32: clean the data first")
    tensor = torch.from_numpy(np.require(x, requirements=["C", "W"]))
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim == 4 and (layout or _layout(what, x.shape)) == LAST:
        return tensor.permute(0, 3, 1, 2)
    return tensor


def _layout(what: str, shape: tuple[int, ...]) -> str:
    first, middle, last = (size <= CHANNELS for size in shape[1:])
    if not last:
        return FIRST
    if first or middle:
        raise UserError(
            f"{what} has shape {shape}, whose channels may be first or last: say which by a fifth array, "
            f"layout={FIRST!r} or {LAST!r}, beside x and y"
        )
    return LAST


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and largest magnitude of each channel or feature of x, in float64.

    The deviation is exactly 0 where x does not vary, up to the rounding of float64.

    Shapes: x (N, C, ...); each result (C,).
    """
    dims, count = [d for d in range(x.ndim) if d != 1], x.numel() / x.shape[1]
    chunks = torch.split(x, 4096)  # in float64 one after the other, to bound the memory
    mean = torch.stack([chunk.double().sum(dims) for chunk in chunks]).sum(0) / count
    centre = mean.reshape(-1, *(1,) * (x.ndim - 2))
    std = (torch.stack([(chunk.double() - centre).square().sum(dims) for chunk in chunks]).sum(0) / count).sqrt()
    high = torch.stack([chunk.amax(dims) for chunk in chunks]).amax(0).double()
    low = torch.stack([chunk.amin(dims) for chunk in chunks]).amin(0).double()
    largest = torch.maximum(high.abs(), low.abs())
    return mean, torch.where(high - low > VARIES * largest, std, 0.0), largest


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """(mean, std), each (C,) float32, of each channel or feature of x (N, C, ...); std is 1 where x does not vary.

    >>> statistics(torch.tensor([[2.0**-30, 5.0], [2.0**-29, 5.0]]))[1].tolist()
    [4.656612873077393e-10, 1.0]
    """
    mean, std, _ = moments(x)
    return mean.float(), torch.where(std > 0, std, 1.0).float()


def find_offset(what: str, x: Tensor) -> tuple[float, ...]:
    """What to subtract from each channel or feature of x before float32 loses its differences; () for nothing.

    A round number near the mean where the largest value is more than 2¹⁴ standard deviations, else 0.

    Raises:
        UserError: for a feature whose spread is too small for float32.

    >>> find_offset("x", torch.tensor([[1.7e9, 1.0], [1.7e9 + 4, 2.0]], dtype=torch.float64))
    (1700000002.0, 0.0)
    """
    if x.dtype == torch.uint8:
        return ()
    mean, std, largest = (each.tolist() for each in moments(x))
    for i, spread in enumerate(std):
        if 0 < spread < LEAST:
            raise UserError(f"{what}: feature {i} varies by {spread:.1g} only, too little for float32: multiply it")
    lost = [top > FLOAT32 * spread > 0 for top, spread in zip(largest, std, strict=True)]
    if not any(lost):
        return ()
    return tuple(
        round(m, -math.floor(math.log10(s))) if far else 0.0 for m, s, far in zip(mean, std, lost, strict=True)
    )


def shifted(what: str, x: Tensor, offset: Sequence[float]) -> Tensor:
    """x minus `offset`, subtracted in float64, as float32; uint8 stays where there is no offset.

    Raises:
        UserError: for an offset of other inputs.
    """
    if offset:
        if len(offset) != x.shape[1]:
            raise UserError(
                f"{what} has inputs of shape {tuple(x.shape[1:])}, the network takes {len(offset)} features"
            )
        x = x.double() - torch.tensor(offset, dtype=torch.float64).reshape(-1, *(1,) * (x.ndim - 2))
    return x if x.dtype == torch.uint8 else x.float()


def find_limits(x: Tensor) -> Limits:
    """(smallest, largest) value of all of x for images (N, C, H, W), of each feature for vectors (N, F).

    >>> find_limits(torch.tensor([[0.0, 5.0], [1.0, 7.0]]))
    ((0.0, 1.0), (5.0, 7.0))
    """
    if x.ndim > 2:
        return ((float(x.min()), float(x.max())),)
    return tuple(zip(x.amin(0).double().tolist(), x.amax(0).double().tolist(), strict=True))


def other_units(what: str, x: Tensor, limits: Limits, features: Sequence[str] = ()) -> tuple[str, ...]:
    """A note where x is probably in other units than training data of these `limits`, if they are of such inputs.

    So it is if a hundredth of x lies farther beyond them than they are wide, or if images are within -1 to 1 and
    training's were not nearly.  What did not vary in training is not compared.

    >>> other_units("x", torch.tensor([[[[0.0, 255.0]]]]), ((0.0, 1.0),))
    ('x has values from 0 to 255, training had 0 to 1: is it in the same units?',)
    """
    image, found = x.ndim > 2, find_limits(x)
    if len(found) != len(limits):
        return ()
    wrong = []
    for i, ((low, high), (least, most)) in enumerate(zip(found, limits, strict=True)):
        width, values = most - least, x if image else x[:, i]
        far = width > 0 and (high > most + width or low < least - width)
        far = far and float(((values > most + width) | (values < least - width)).float().mean()) > BEYOND
        if far or (image and -1 <= low < high <= 1 and width > 10):
            wrong.append(i)
    if not wrong:
        return ()
    first = wrong[0]
    column = f" in column {features[first]!r}" if features else f" in feature {first}" if x.ndim == 2 else ""
    now, then = (" to ".join(f"{value:.6g}" for value in pair[first]) for pair in (found, limits))
    more = f" (and so in {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return (f"{what} has values from {now}{column}, training had {then}{more}: is it in the same units?",)


def fingerprint(classes: Sequence[str], *parts: tuple[Tensor, Tensor]) -> str:
    """The sizes of the parts and a digest of every x, y and class name: equal for equal data.

    >>> fingerprint(("a", "b"), (torch.zeros(3, 2), torch.zeros(3)), (torch.zeros(1, 2), torch.zeros(1)))
    '3+1 examples, digest 9576f8e00e6832af'
    """
    digest = hashlib.blake2b(repr(tuple(classes)).encode(), digest_size=8)
    for tensor in (tensor for part in parts for tensor in part):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        for chunk in torch.split(tensor, 4096):
            digest.update(chunk.contiguous().numpy().tobytes())
    return f"{'+'.join(str(len(y)) for _, y in parts)} examples, digest {digest.hexdigest()}"
