"""Metrics of predicted class probabilities: right, likely, and honest about it."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(probs: Tensor, labels: Tensor) -> float:
    """Share of inputs whose most probable class is the label, in [0, 1].

    Args:
        probs: (B, C) class probabilities.
        labels: (B,) integer classes.

    >>> import torch
    >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    0.5
    """
    return float((probs.argmax(-1) == labels).double().mean())


def nll(probs: Tensor, labels: Tensor) -> float:
    """Negative log likelihood −1/B Σ log p(label), in nats per input; probabilities below 1e-12 count as 1e-12.

    >>> import torch
    >>> round(nll(torch.tensor([[0.5, 0.5]]), torch.tensor([0])), 4)
    0.6931
    """
    chosen = probs.double().gather(-1, labels[:, None].long())
    return float(-chosen.clamp(min=1e-12).log().mean())


def brier(probs: Tensor, labels: Tensor) -> float:
    """Brier score 1/B Σ_i Σ_c (p_ic − [y_i = c])², summed over all classes: in [0, 2], 0 is perfect.

    Source: Brier (1950).

    >>> import torch
    >>> brier(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    0.5
    """
    target = F.one_hot(labels.long(), probs.shape[-1])
    return float((probs.double() - target).square().sum(-1).mean())


def ece(probs: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error Σ_b |B_b|/B · |accuracy(B_b) − confidence(B_b)|, in [0, 1].

    Bins of equal width over the probability of the predicted class.

    Source: Guo et al. (2017); computed by torchmetrics (L1).

    >>> import torch
    >>> round(ece(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])), 4)
    0.0
    """
    from torchmetrics.functional.classification import multiclass_calibration_error  # slow to import

    probs = probs.clamp(0, 1)  # torchmetrics takes a sum rounded to 1.0000001 for logits
    return float(multiclass_calibration_error(probs, labels, num_classes=probs.shape[-1], n_bins=num_bins))


def classwise_ece(probs: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Mean over classes of the calibration error of that class's probability, 1/C Σ_c ECE_c, in [0, 1].

    ECE_c compares, in bins of p_c over *all* inputs, the mean of p_c with the share of inputs of class c; unlike `ece`
    it also sees the probabilities of the classes that were not predicted.

    Source: Kull et al. (2019); Nixon et al. (2019, "static calibration error"); the parts by torchmetrics.

    >>> import torch
    >>> round(classwise_ece(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])), 4)
    0.0
    """
    from torchmetrics.functional.classification import binary_calibration_error  # slow to import

    probs = probs.clamp(0, 1).T.contiguous()
    errors = [binary_calibration_error(p, labels == c, n_bins=num_bins) for c, p in enumerate(probs)]
    return float(torch.stack(errors).mean())


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: per bin that holds inputs, its `count`, mean `confidence` and `accuracy` (lists)."""

    count: list[int]
    confidence: list[float]
    accuracy: list[float]


def reliability(probs: Tensor, labels: Tensor, num_bins: int = 15) -> Reliability:
    """Confidence against accuracy in the bins of `ece`; bins without inputs are left out.

    >>> import torch
    >>> reliability(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
    Reliability(count=[4], confidence=[0.75], accuracy=[0.75])
    """
    confidence, predicted = probs.double().max(-1)
    bins = (confidence * num_bins).long().clamp(0, num_bins - 1)
    count = torch.bincount(bins, minlength=num_bins)
    filled = count > 0
    sums = [
        torch.zeros(num_bins, dtype=torch.float64).index_add_(0, bins.cpu(), v.double().cpu())
        for v in (confidence, predicted == labels)
    ]
    count, filled = count.cpu(), filled.cpu()
    means = [(s[filled] / count[filled]).tolist() for s in sums]
    return Reliability(count[filled].tolist(), *means)
