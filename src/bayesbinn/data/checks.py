"""Arrays as people have them, checked and made into tensors: layout, precision, and the numbering of classes."""

import hashlib
import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .source import Array, some

FIRST, LAST = "channels-first", "channels-last"
CHANNELS = 4  # the most that an image has
LEAST = 1e-30  # a smaller spread is lost when float32 divides by it
VARIES = 1e-13  # of the largest value, a few hundred roundings of float64: less is no variation
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


def check_features(what: str, found: Sequence[str], features: Sequence[str]) -> None:
    """Refuse columns of other names, or in another order, than those that a network was trained on.

    Raises:
        UserError: naming the first that differs.
    """
    if found and features and list(found) != list(features):
        i = next((i for i, names in enumerate(zip(found, features, strict=False)) if names[0] != names[1]), None)
        which = f"{len(found)} columns" if i is None else f"{found[i]!r} as column {i + 1}"
        need = f"{len(features)}" if i is None else f"{features[i]!r}"
        raise UserError(f"{what} has {which}, training has {need} there: give the same columns in the same order")


def label_names(what: str, y: Array, count: int, names: Sequence[str] = ()) -> Array:
    """(N,) str, the class of each example by its name; whole numbers are their own names, or number `names`.

    Raises:
        UserError: for another shape, or labels that are neither whole numbers nor words.

    >>> label_names("y", np.array([1.0, 10.0]), 2).tolist()
    ['1', '10']
    """
    if y.shape != (count,):
        raise UserError(f"{what} has shape {y.shape}, its inputs need ({count},): one label per input")
    if y.dtype.kind == "f":
        wrong = y[~(np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2.0**63))]
        if wrong.size:
            raise UserError(f"{what} holds label {wrong[0]}: labels must be whole numbers or names of classes")
        y = y.astype(np.int64)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind == "O" and all(isinstance(label, str) for label in y):
        y = y.astype(str)
    if y.dtype.kind not in "iubU":
        raise UserError(f"{what} is of type {y.dtype}: labels must be whole numbers or names of classes")
    if names and y.dtype.kind in "iu":
        wrong = y[(y < 0) | (y >= len(names))]
        if wrong.size:
            raise UserError(f"{what} holds label {wrong[0]}, there are names for 0 to {len(names) - 1}: add the name")
        return np.array(names)[y]
    return y.astype(str)


def sorted_classes(names: Array) -> tuple[str, ...]:
    """The distinct names, whole numbers first and by size.

    >>> sorted_classes(np.array(["10", "9", "cat", "9"]))
    ('9', '10', 'cat')
    """
    return tuple(sorted(np.unique(names).tolist(), key=lambda n: (0, int(n), n) if _WHOLE(n) else (1, 0, n)))


_WHOLE = re.compile(r"[+-]?[0-9]+").fullmatch


def numbering(what: str, classes: Sequence[str]) -> tuple[str, ...]:
    """A note where the labels are whole numbers but not 0, 1, ..., C − 1.

    >>> numbering("x", ("1", "2"))
    ('the labels 1, 2 of x are numbered 0 to 1',)
    """
    if not all(map(_WHOLE, classes)) or list(classes) == list(map(str, range(len(classes)))):
        return ()
    return (f"the labels {some(classes)} of {what} are numbered 0 to {len(classes) - 1}",)


def numbered(what: str, names: Array, classes: Sequence[str]) -> Tensor:
    """(N,) int64, the place of each name in `classes`.

    Raises:
        UserError: naming the first that is not there.
    """
    place = {name: i for i, name in enumerate(classes)}
    distinct, inverse = np.unique(names, return_inverse=True)
    for name in distinct.tolist():
        if name not in place:
            raise UserError(
                f"{what} holds class {name}, training knows {some(classes, 10)}: leave it out, or train on it"
            )
    return torch.tensor([place[name] for name in distinct.tolist()])[torch.from_numpy(inverse)]


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
