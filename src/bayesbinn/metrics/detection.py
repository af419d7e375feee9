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

    scores = torch.cat([_checked(inside, "inside"), _checked(outside, "outside")])
    ranks = torch.unique(scores, return_inverse=True)[1]  # torchmetrics squashes what is above 1, and loses the order
    return float(binary_auroc(ranks.double() / len(ranks), torch.arange(len(ranks)) >= len(inside)))


def fpr95(inside: Tensor, outside: Tensor) -> float:
    """Share of outside inputs accepted by the lowest threshold that accepts 95 % of the inside ones, in [0, 1].

    The convention of Liang et al. (2018): "positive" is in distribution, so the threshold needs no outside inputs to
    set.  An input is accepted if its score is at most the threshold, so ties are accepted together.

    Args, Raises: as `auroc`.

    >>> fpr95(torch.arange(100.0), torch.tensor([1.0, 94.0, 95.0, 200.0]))
    0.5
    """
    inside, outside = _checked(inside, "inside"), _checked(outside, "outside")
    needed = -(-95 * len(inside) // 100)  # the whole number from 0.95 N up, without rounding 0.95
    return float((outside <= inside.kthvalue(needed).values).double().mean())


def _checked(scores: Tensor, name: str) -> Tensor:
    if scores.ndim != 1 or len(scores) == 0 or not bool(scores.isfinite().all()):
        raise ValueError(f"{name} must hold at least one finite score in one dimension, got {tuple(scores.shape)}")
    return scores.double().cpu()
