"""Tensors that torch splits over processes (DTensor, as FSDP2 leaves λ): one's own part, sums over all, the whole.

Ordinary tensors pass through unchanged, and nothing of torch's distributed package is imported for them.  What a
process computes with `local` it may do alone; `total` and `whole` are collective: every process must call them.
"""

from typing import Any

import torch
from torch import Tensor


def is_split(tensor: Tensor | float) -> bool:
    """Whether `tensor` is a DTensor."""
    return hasattr(tensor, "to_local")


def local(tensor: Any) -> Any:
    """This process's part, sharing memory with `tensor` where autograd is off; numbers and tensors as they are.

    >>> local(torch.zeros(2)).shape, local(0.5)
    (torch.Size([2]), 0.5)
    """
    return tensor.to_local() if is_split(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the parts of all processes."""
    full: Tensor = tensor.full_tensor() if is_split(tensor) else tensor  # type: ignore[attr-defined]
    return full


def total(value: Tensor, like: Any) -> Tensor:
    """The sum of `value` over the processes that `like` is split over; each gives what it found in its own part.

    >>> total(torch.tensor(3.0), like=torch.zeros(2))
    tensor(3.)
    """
    if not is_split(like):
        return value
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Partial() if p.is_shard() else Replicate() for p in like.placements]
    return whole(DTensor.from_local(value, like.device_mesh, placements))


def split(full: Tensor, like: Any) -> Tensor:
    """`full`, which every process holds, split as `like` is; local work only."""
    if not is_split(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    return distribute_tensor(full.to(mesh.device_type), mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def mean(values: Tensor, like: Tensor) -> float:
    """The mean over all of `like` of `values`, computed from this process's part of it."""
    return float(total(values.sum(dtype=torch.float64), like)) / like.numel()
