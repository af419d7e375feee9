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

    >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    0.5
    """
    return float((probs.argmax(-1) == labels).double().mean())


def nll(probs: Tensor, labels: Tensor) -> float:
    """Negative log likelihood −1/B Σ log p(label), in nats per input; probabilities below 1e-12 count as 1e-12.

    >>> round(nll(torch.tensor([[0.5, 0.5]]), torch.tensor([0])), 4)
    0.6931
    """
    chosen = probs.double().gather(-1, labels[:, None].long())
    return float(-chosen.clamp(min=1e-12).log().mean())


def brier(probs: Tensor, labels: Tensor) -> float:
    """Brier score 1/B Σ_i Σ_c (p_ic − [y_i = c])², summed over all classes: in [0, 2], 0 is perfect.

    Source: Brier (1950).

    >>> brier(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    0.5
    """
    target = F.one_hot(labels.long(), probs.shape[-1])
    return float((probs.double() - target).square().sum(-1).mean())


def ece(probs: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error Σ_b |B_b|/B · |accuracy(B_b) − confidence(B_b)|, in [0, 1].

    Over the bins of `reliability`: it is what that diagram shows, as one number.

    Source: Guo et al. (2017).

    >>> ece(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
    0.0
    """
    return _gap(reliability(probs, labels, num_bins))


def classwise_ece(probs: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Mean over classes of the calibration error of that class's probability, 1/C Σ_c ECE_c, in [0, 1].

    ECE_c compares, in bins of p_c over *all* inputs, the mean of p_c with the share of inputs of class c; unlike `ece`
    it also sees the probabilities of the classes that were not predicted.

    Source: Kull et al. (2019); Nixon et al. (2019, "static calibration error").

    >>> classwise_ece(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1]))
    0.0
    """
    errors = [_gap(_binned(p, labels == c, num_bins)) for c, p in enumerate(probs.T)]
    return sum(errors) / len(errors)


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: per bin that holds inputs, its `count`, mean `confidence` and `accuracy` (lists)."""

    count: list[int]
    confidence: list[float]
    accuracy: list[float]


def reliability(probs: Tensor, labels: Tensor, num_bins: int = 15) -> Reliability:
    """Accuracy against confidence, the probability of the predicted class, in bins of equal width.

    Bin b holds b/n ≤ confidence < (b+1)/n, and the last one 1 as well; bins without inputs are left out.

    >>> reliability(torch.tensor([[0.9375, 0.0625], [1.0, 0.0]]), torch.tensor([0, 1]))
    Reliability(count=[2], confidence=[0.96875], accuracy=[0.5])
    """
    predicted = probs.argmax(-1)
    return _binned(probs.gather(-1, predicted[:, None])[:, 0], predicted == labels, num_bins)


def _binned(confidence: Tensor, hit: Tensor, num_bins: int) -> Reliability:
    # torchmetrics has a bin of its own for 1, so that its error is not the one that the diagram shows
    edges = (torch.arange(1, num_bins).double() / num_bins).to(confidence.dtype).double()  # rounded as the numbers are
    confidence, hit = confidence.double().cpu().clamp(max=1), hit.double().cpu()  # a mean may be rounded above 1
    bins = torch.bucketize(confidence, edges, right=True)
    count = torch.bincount(bins, minlength=num_bins)
    filled = count > 0
    means = [(torch.bincount(bins, v, num_bins)[filled] / count[filled]).tolist() for v in (confidence, hit)]
    return Reliability(count[filled].tolist(), *means)


def _gap(r: Reliability) -> float:
    gaps = (n * abs(a - c) for n, a, c in zip(r.count, r.accuracy, r.confidence, strict=True))
    return sum(gaps) / sum(r.count)
