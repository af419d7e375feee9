"""Signs as bits, and bits as signs."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pack_signs(weight: Tensor) -> NDArray[np.uint8]:
    """Signs of `weight` as bits: 1 ⇔ +1 (or above), lowest bit of a byte first, in the tensor's own order, 0-padded.

    >>> pack_signs(torch.tensor([1.0, -1.0, 1.0]))
    array([5], dtype=uint8)
    """
    bits = (weight.detach().cpu() >= 0).reshape(-1).numpy()
    return np.packbits(bits, bitorder="little")


def unpack_signs(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> Tensor:
    """The int64 ±1 tensor of `shape` that `pack_signs` packed.

    >>> unpack_signs(np.array([5], np.uint8), (3,))
    tensor([ 1, -1,  1])
    """
    count = math.prod(shape)
    if len(bits) != (count + 7) // 8:
        raise ValueError(f"{count} signs take {(count + 7) // 8} bytes, got {len(bits)}")
    ones = np.unpackbits(np.ascontiguousarray(bits), count=count, bitorder="little")
    return torch.from_numpy(2 * ones.astype(np.int64) - 1).reshape(shape)
