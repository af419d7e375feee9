"""Telling inputs of another kind from those of the training distribution by a score of uncertainty."""

import torch
from torch import Tensor


def auroc(inside: Tensor, outside: Tensor) -> float:
    """Probability that an input from outside scores higher than one from inside, ties counting half.

    That is the area under the receiver operating characteristic: 1 separates perfectly, ½ is chance, below ½ the
    network is *more* certain outside.

    Args:
        inside: (N,) scores in distribution; any monotone scale.
        outside: (M,) scores out of distribution.

    Raises:
        ValueError: for an empty or non-finite tensor.

    Source: Hendrycks & Gimpel (2017); computed by torchmetrics.

    >>> auroc(torch.tensor([0.1, 0.2]), torch.tensor([0.2, 5.0]))
    0.875
    """
    from torchmetrics.functional.classification import binary_auroc  # slow to import

    ranks, target = _ranks(inside, outside)
    return float(binary_auroc(ranks, target))


def fpr95(inside: Tensor, outside: Tensor) -> float:
    """Share of outside inputs accepted by the lowest threshold that accepts 95 % of the inside ones, in [0, 1].

    The convention of Liang et al. (2018): "positive" is in distribution, so the threshold needs no outside inputs to
    set.  An input is accepted if its score is at most the threshold.

    Args, Raises: as `auroc`.

    >>> fpr95(torch.arange(100.0), torch.tensor([1.0, 94.0, 95.0, 200.0]))
    0.5
    """
    from torchmetrics.functional.classification import binary_specificity_at_sensitivity  # slow to import

    ranks, target = _ranks(inside, outside)
    specificity, _ = binary_specificity_at_sensitivity(1 - ranks, 1 - target, min_sensitivity=0.95)
    return 1 - float(specificity)


def _ranks(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """(scores as ranks in [0, 1], 1 for outside): torchmetrics squashes what is not a probability, losing order."""
    for name, scores in (("inside", inside), ("outside", outside)):
        if scores.ndim != 1 or len(scores) == 0 or not bool(scores.isfinite().all()):
            raise ValueError(f"{name} must hold at least one finite score in one dimension, got {tuple(scores.shape)}")
    scores = torch.cat([inside.double().cpu(), outside.double().cpu()])
    order = torch.unique(scores, return_inverse=True)[1]
    target = torch.cat([torch.zeros(len(inside), dtype=torch.long), torch.ones(len(outside), dtype=torch.long)])
    return order.double() / max(1, int(order.max())), target
