"""How torch's shapes lie in the values of a plan: every view is a tensor of the numbers that it reads.

A value of the plan is stored as (C,), (C, L) or (C, H, W).  What the network sees of it (a permutation, a reshape, a
slice) is followed by doing the same to a tensor of the stored numbers' indices, for `BATCH` inputs at once, so that it
is known where the batch went.  Views cost nothing until an operation needs its input stored in another order; then
the indices become sizes and strides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.operation import View
from ..runtime.reader import MAX_DIMS, inner_shape

BATCH = 2  # inputs that tracing pretends to have
Sizes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the network: which value of the plan, and which of its numbers, in the order of the tensor.

    Attributes:
        index: of the value.
        stored: its shape in the plan.
        view: int64, in the shape of the tensor with `BATCH` inputs: number i of input b is b · (numbers of one) + i;
            None where the tensor is as it is stored.
    """

    index: int
    stored: Sizes
    view: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """The view, also where there is none."""
        if self.view is not None:
            return self.view
        return torch.arange(BATCH * self.size).reshape(BATCH, *self.stored)

    @property
    def size(self) -> int:
        """Numbers of one input."""
        return math.prod(self.stored)

    @property
    def shape(self) -> Sizes:
        """Without the batch, where that comes first."""
        return self.stored if self.view is None else tuple(self.view.shape[1:])

    @property
    def own(self) -> Tensor | None:
        """What it reads of one input, if the batch comes first."""
        seen = self.seen
        return seen[0] if _is_batch(seen, self.size) else None

    def viewed(self, change: Callable[[Tensor], Tensor]) -> "Value":
        """The same numbers after `change`, a view of torch's."""
        return Value(self.index, self.stored, change(self.seen))

    def whole(self) -> bool:
        """Whether it reads each number once, so that a function of each can be done where they are stored."""
        if self.view is None:
            return True
        return self.view.numel() == BATCH * self.size and bool((self.view.flatten().bincount() == 1).all())


def _is_batch(seen: Tensor, size: int) -> bool:
    """Whether the first axis is the batch and nothing else."""
    return len(seen) == BATCH and bool((seen[0] < size).all()) and torch.equal(seen[1] - size, seen[0])


def batch_axis(seen: Tensor, size: int) -> int | None:
    """Which axis is the batch, if one is; `size` numbers belong to one input."""
    return next((axis for axis in range(seen.ndim) if _is_batch(seen.movedim(axis, 0), size)), None)


def batch_first(seen: Tensor, size: int) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """`seen` with the batch as a first axis of its own, and what makes a tensor like it the way `seen` was.

    None where the batch is mixed with something else; `size` numbers belong to one input.
    """
    axis = batch_axis(seen, size)
    if axis is not None:
        return seen.movedim(axis, 0), lambda made: made.movedim(0, axis)
    if seen.ndim and seen.shape[0] % BATCH == 0:  # (B · T, ...)
        moved = seen.reshape(BATCH, -1, *seen.shape[1:])
        if _is_batch(moved, size):
            return moved, lambda made: made.flatten(0, 1)
    return None


def rows_shape(shape: Sizes) -> Sizes:
    """How a tensor (..., D) is stored with its last axis as channels: (D,), (D, T) or (D, H, W)."""
    *rest, features = shape
    if len(rest) > 2:
        rest = [math.prod(rest[:-1]), rest[-1]]
    return (features, *rest)


def as_rows(own: Tensor) -> Tensor:
    """A tensor (..., D) of one input in the order of `rows_shape`."""
    return own.movedim(-1, 0).reshape(rows_shape(tuple(own.shape)))


def from_rows(shape: Sizes, like: Sizes) -> Tensor:
    """Where the numbers of a tensor (BATCH, ..., D) are when it is stored as rows; `like` gives (...), shape[0] D."""
    made = torch.arange(BATCH * math.prod(shape)).reshape(BATCH, shape[0], -1)
    return made.movedim(1, -1).reshape(BATCH, *like[:-1], shape[0])


def strided(indices: NDArray[np.int64]) -> View | None:
    """Sizes, strides and an offset that give these indices in their order; None where there are none."""
    left = indices.reshape(-1)
    sizes: list[int] = []
    strides: list[int] = []
    while len(left) > 1:
        step = int(left[1] - left[0])
        jumps = np.flatnonzero(np.diff(left) != step)
        run = int(jumps[0]) + 1 if len(jumps) else len(left)
        for size in (n for n in range(run, 1, -1) if len(left) % n == 0):
            heads = left[::size]
            if (left.reshape(-1, size) == heads[:, None] + step * np.arange(size)).all():
                break
        else:
            return None
        sizes.insert(0, size)
        strides.insert(0, step)
        left = heads
    if len(sizes) > MAX_DIMS:
        return None
    return View(tuple(sizes or [1]), tuple(strides or [1]), int(left[0]))


def in_memory(shape: Sizes) -> NDArray[np.int64]:
    """For each number of a value of this shape, channels first: its place with the channels last."""
    channels, height, width = inner_shape(shape)
    places = np.arange(math.prod(shape)).reshape(height, width, channels)
    return places.transpose(2, 0, 1).reshape(-1)


def memory_order(own: Tensor) -> NDArray[np.int64]:
    """The numbers of a tensor (C,), (C, L) or (C, H, W) in the order in which memory holds them, channels last."""
    return own.numpy().reshape(inner_shape(tuple(own.shape))).transpose(1, 2, 0).reshape(-1)
