"""Metrics of continual learning: small functions on the accuracy matrix.

R is (T, T): `R[i][j]` is the accuracy on task j after training on task i (both from 0), in [0, 1].  Above the diagonal
are tasks not yet seen.  Entries may be NaN where nothing was measured; each function says which ones it needs.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor


class NotMeasuredError(ValueError):
    """An entry of the matrix that a metric needs is NaN."""


def average_accuracy(matrix: Tensor, last: int | None = None) -> float:
    """A = mean of `R[T−1][j]` over all tasks j, or over the `last` ones, after training on all.

    "Last 5" rewards a short memory: report it beside the average over all tasks.

    Args:
        matrix: R; its last row is needed.
        last: how many of the latest tasks to average; None, or more than there are, is all.

    Raises:
        ValueError: for a matrix that is not square, a NaN among the entries needed, or `last` below 1.

    >>> average_accuracy(torch.tensor([[0.9, 0.1], [0.7, 0.8]]))
    0.75
    """
    _square(matrix)
    if last is not None and last < 1:
        raise ValueError(f"last must be at least 1, got {last}")
    return _mean(matrix[-1] if last is None else matrix[-1][-last:])


def learning_accuracy(matrix: Tensor) -> float:
    """Mean of `R[j][j]`: accuracy on each task just after training on it, the plasticity.

    Source: Riemer et al. (2019).

    >>> round(learning_accuracy(torch.tensor([[0.9, 0.1], [0.7, 0.8]])), 4)
    0.85
    """
    _square(matrix)
    return _mean(matrix.diagonal())


def backward_transfer(matrix: Tensor) -> float:
    """BWT = mean over j < T−1 of `R[T−1][j]` − `R[j][j]`; negative where later tasks did harm.  0 for one task.

    Source: Lopez-Paz & Ranzato (2017).

    >>> round(backward_transfer(torch.tensor([[0.9, 0.1], [0.7, 0.8]])), 4)
    -0.2
    """
    _square(matrix)
    return _mean(matrix[-1][:-1] - matrix.diagonal()[:-1]) if len(matrix) > 1 else 0.0


def forgetting(matrix: Tensor) -> float:
    """F = mean over j < T−1 of (max over j ≤ i < T−1 of `R[i][j]`) − `R[T−1][j]`.  0 for one task.

    Source: Chaudhry et al. (2018); rows before a task was seen are left out.

    >>> round(forgetting(torch.tensor([[0.6, 0.1, 0.1], [0.9, 0.8, 0.1], [0.7, 0.8, 0.9]])), 4)
    0.1
    """
    _square(matrix)
    if len(matrix) == 1:
        return 0.0
    best = torch.stack([matrix[j:-1, j].max() for j in range(len(matrix) - 1)])
    return _mean(best - matrix[-1][:-1])


def forward_transfer(matrix: Tensor, untrained: Tensor) -> float:
    """FWT = mean over j > 0 of `R[j−1][j]` − b[j]: what earlier tasks give to one not yet seen.  0 for one task.

    Args:
        matrix: R; its first superdiagonal is needed.
        untrained: b (T,), accuracy of the untrained network on each task.

    Source: Lopez-Paz & Ranzato (2017).

    >>> round(forward_transfer(torch.tensor([[0.9, 0.3], [0.7, 0.8]]), torch.tensor([0.1, 0.1])), 4)
    0.2
    """
    _square(matrix)
    return _mean(matrix.diagonal(1) - untrained[1:]) if len(matrix) > 1 else 0.0


def summary(matrix: Tensor, untrained: Tensor | None = None) -> dict[str, float]:
    """All of the above by name, in [0, 1] or differences of it; those that need what was not measured are left out.

    >>> sorted(summary(torch.tensor([[0.9]])))
    ['average', 'backward_transfer', 'forgetting', 'last_20', 'last_5', 'learning']
    """
    metrics: dict[str, Callable[[Tensor], float]] = {
        "average": average_accuracy,
        "last_5": partial(average_accuracy, last=5),
        "last_20": partial(average_accuracy, last=20),
        "learning": learning_accuracy,
        "forgetting": forgetting,
        "backward_transfer": backward_transfer,
    }
    if untrained is not None:
        metrics["forward_transfer"] = partial(forward_transfer, untrained=untrained)
    found = {}
    for name, metric in metrics.items():
        with suppress(NotMeasuredError):
            found[name] = metric(matrix)
    return found


def _square(matrix: Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(f"the accuracy matrix must be (T, T) with T of at least 1, got {tuple(matrix.shape)}")


def _mean(values: Tensor) -> float:
    if bool(values.isnan().any()):
        raise NotMeasuredError("an accuracy that this metric needs was not measured: the matrix holds NaN there")
    return float(values.double().mean())
