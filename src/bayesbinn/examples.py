"""Labelled examples in memory: what data sets, streams and evaluations are made of."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """N labelled examples: x (N, C, H, W), (N, F) or of another shape that a network takes; y (N,) int64 classes.

    x is in the units of the data file, of any type that `.float()` takes.

    >>> import torch
    >>> len(Examples(torch.zeros(3, 2), torch.tensor([0, 1, 0])))
    3
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)
