"""Selective prediction: answer only where certain, and see how much better the answers are."""

import torch
from torch import Tensor


def risk_coverage(errors: Tensor, scores: Tensor) -> Tensor:
    """Risk when the k most certain inputs are answered, for k = 1 … B:  r_k = 1/k Σ_{i ≤ k} error_(i).

    Inputs are answered in the order of rising score.  Among equal scores the order is open, so each counts with their
    mean error, and the curve does not depend on the order of the data.

    Args:
        errors: (B,) 1 where the prediction is wrong, 0 where right (or any loss).
        scores: (B,) uncertainty, higher is less certain.

    Returns:
        (B,) float64; the coverage of entry k − 1 is k/B.

    Raises:
        ValueError: if the two differ in shape, are empty, or hold a number that is not finite.

    Source: El-Yaniv & Wiener (2010); Geifman & El-Yaniv (2017).

    >>> risk_coverage(torch.tensor([0.0, 1.0]), torch.tensor([0.1, 0.9])).tolist()
    [0.0, 0.5]
    """
    if errors.shape != scores.shape or errors.ndim != 1 or len(errors) == 0:
        raise ValueError(f"errors and scores must both be (B,), got {tuple(errors.shape)} and {tuple(scores.shape)}")
    errors, scores = errors.double().cpu(), scores.double().cpu()
    if not bool((errors.isfinite() & scores.isfinite()).all()):
        raise ValueError("errors and scores must be finite: an input without a score can be put in no order")
    _, group, size = torch.unique(scores, return_inverse=True, return_counts=True)
    mean = torch.zeros(len(size), dtype=torch.float64).index_add_(0, group, errors) / size
    risk: Tensor = mean.repeat_interleave(size).cumsum(0) / torch.arange(1, len(errors) + 1)
    return risk


def aurc(errors: Tensor, scores: Tensor) -> float:
    """Area under the risk–coverage curve, 1/B Σ_k r_k: 0 is perfect, the error rate is what random scores give.

    >>> aurc(torch.tensor([0.0, 1.0]), torch.tensor([0.1, 0.9]))
    0.25
    """
    return float(risk_coverage(errors, scores).mean())
